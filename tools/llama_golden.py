#!/usr/bin/env python3
"""Makes crates/lightglm-model/tests/data/llama: tiny random models of the Llama family and one of ChatGLM's, and
their logits.

Each folder is what transformers' `save_pretrained` writes (weights in bfloat16), with `expected.safetensors`:
`input_ids` [tokens] and `logits` [tokens, vocabulary], computed in f32 by transformers' own classes; the same as a
batch that `verify` reads (`nopad.input_ids`, `nopad.logits`), and in `expected_train.safetensors` loss and gradients.
ChatGLM's is a `glm` under the names of ChatGLM's own code, as transformers' convert_glm_weights_to_hf.py reads them.

    pip install torch transformers==5.24.0 safetensors
    tools/llama_golden.py crates/lightglm-model/tests/data/llama
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM

TOKENS = 20

SHAPE = {
    "hidden_size": 16,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}

# In transformers' words, and in ChatGLM's.
CHATGLM = {
    "attention_bias": True,
    "rms_norm_eps": 1.5625e-7,
    "pad_token_id": 3,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5_000_000.0, "partial_rotary_factor": 0.5},
}

CHATGLM_CONFIG = {
    "model_type": "chatglm",
    "architectures": ["ChatGLMModel"],
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "apply_query_key_layer_scaling": True,
    "apply_residual_connection_post_layernorm": False,
    "eos_token_id": [2, 5],
    "ffn_hidden_size": 20,
    "hidden_size": 16,
    "kv_channels": 8,
    "layernorm_epsilon": 1.5625e-7,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "original_rope": True,
    "pad_token_id": 3,
    "padded_vocab_size": 40,
    "post_layer_norm": True,
    "rmsnorm": True,
    "rope_ratio": 500,
    "seq_length": 64,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 40,
}

MODELS = {
    "llama_tied": ("llama", {"tie_word_embeddings": True, "rope_parameters": LLAMA3}),
    "llama_bias": ("llama", {"attention_bias": True, "num_key_value_heads": 4, "rms_norm_eps": 1e-5}),
    "mistral": ("mistral", {"sliding_window": None, "num_key_value_heads": 1}),
    "qwen2": ("qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
    "qwen3": ("qwen3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}}),
    "chatglm": ("glm", CHATGLM),
}


def as_chatglm(tensors):
    """The tensors of a `glm` under the names of ChatGLM's own code."""
    names = {
        "model.embed_tokens": "transformer.embedding.word_embeddings",
        "model.norm": "transformer.encoder.final_layernorm",
        "lm_head": "transformer.output_layer",
        "model.layers": "transformer.encoder.layers",
        "self_attn.o_proj": "self_attention.dense",
        "mlp.gate_up_proj": "mlp.dense_h_to_4h",
        "mlp.down_proj": "mlp.dense_4h_to_h",
    }
    out = {"transformer.rotary_pos_emb.inv_freq": torch.ones(2, dtype=torch.bfloat16)}
    for name, tensor in tensors.items():
        if "q_proj" in name:
            parts = [tensors[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            name, tensor = name.replace("self_attn.q_proj", "self_attention.query_key_value"), torch.cat(parts)
        elif "k_proj" in name or "v_proj" in name:
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        out[name] = tensor.contiguous()
    return out


def make(folder, model_type, fields, seed):
    """Writes one model and what it says."""
    generator = torch.Generator().manual_seed(seed)
    config = AutoConfig.for_model(model_type, **(SHAPE | fields))
    config._attn_implementation = "eager"
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Large enough that attention is not nearly uniform: its order of rows shows in the logits.
            values = torch.randn(parameter.shape, generator=generator) * 0.3
            if "norm" in name:
                values = 1.0 + values
            if name.endswith("o_proj.bias"):
                values = torch.zeros(parameter.shape)
            parameter.copy_(values.bfloat16().float())
        ids = torch.randint(SHAPE["vocab_size"], (1, TOKENS), generator=generator)
    output = model(input_ids=ids, labels=ids)
    output.loss.backward()
    logits = output.logits[0].detach().contiguous()
    train = {"train.input_ids": ids, "train.loss": output.loss.detach().reshape(1)}
    for name, parameter in model.named_parameters():
        # Of a bias that our decoder has no place for.
        if not name.endswith("o_proj.bias"):
            train[f"train.grad.{name}"] = parameter.grad.clone()
    model.to(torch.bfloat16)
    if model_type == "glm":
        folder.mkdir(exist_ok=True)
        save_file(as_chatglm(model.state_dict()), folder / "model.safetensors", {"format": "pt"})
        (folder / "config.json").write_text(json.dumps(CHATGLM_CONFIG, indent=2) + "\n")
    else:
        model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    expected = {"input_ids": ids[0].clone(), "logits": logits}
    expected |= {"nopad.input_ids": ids, "nopad.logits": logits[None].clone()}
    save_file(expected, folder / "expected.safetensors")
    save_file(train, folder / "expected_train.safetensors")


def main():
    """Reads the arguments and makes every model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=pathlib.Path)
    output = parser.parse_args().output
    for seed, (name, (model_type, fields)) in enumerate(MODELS.items()):
        make(output / name, model_type, fields, seed)


if __name__ == "__main__":
    main()
