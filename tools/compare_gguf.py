#!/usr/bin/env python3
"""A GGUF file in bf16 of a checkpoint that `make_checkpoint` wrote, for the peers of compare.py.

    pip install gguf
    python3 tools/compare_gguf.py CHECKPOINT_FOLDER OUT.gguf

GLM-4-0414's tensors under llama.cpp's names, matrices in bf16 as they are, vectors in f32, no vocabulary.
llama-quantize makes the other formats of it.
"""

import argparse
import json
import pathlib

import gguf
import numpy

NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
LAYER_NAMES = {
    "input_layernorm": "attn_norm",
    "post_self_attn_layernorm": "post_attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "post_mlp_layernorm": "post_ffw_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name):
    if name in NAMES:
        return NAMES[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    module, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{LAYER_NAMES[module]}.{kind}"


def tensors(folder):
    """Name, shape and bf16 bits of each tensor of the folder's safetensors files."""
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header_length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(header_length))
        data = numpy.memmap(path, numpy.uint8, "r", 8 + header_length)
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            if entry["dtype"] != "BF16":
                raise SystemExit(f"{path}: {name} is {entry['dtype']}; make the checkpoint with --dtype bf16")
            begin, end = entry["data_offsets"]
            yield name, entry["shape"], data[begin:end]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    options = parser.parse_args()
    config = json.loads((options.folder / "config.json").read_text())
    rope = config.get("rope_parameters") or {}
    rotary = config.get("partial_rotary_factor", rope.get("partial_rotary_factor", 0.5))
    head_dim = config["head_dim"]

    writer = gguf.GGUFWriter(options.out, "glm4")
    writer.add_name(options.out.stem)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta", rope.get("rope_theta", 10000.0)))
    writer.add_rope_dimension_count(int(head_dim * rotary))
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("no_vocab")
    for name, shape, bits in tensors(options.folder):
        if len(shape) == 1:
            wide = bits.view(numpy.uint16).astype(numpy.uint32) << 16
            writer.add_tensor(gguf_name(name), wide.view(numpy.float32))
        else:
            rows = bits.reshape(shape[0], 2 * shape[1])
            writer.add_tensor(gguf_name(name), rows, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main()
