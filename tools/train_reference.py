#!/usr/bin/env python3
"""Training steps of PyTorch on the shapes of `cargo bench --bench train`.

    pip install torch transformers peft
    python3 tools/train_reference.py [--threads 2] [--steps 6]

Prints tokens/s of each step (forward, backward, clipping, AdamW) and the most memory held:

* small: every parameter of a Glm4ForCausalLM with hidden 256, 6 layers, FFN 768, 4 heads of 64 and 2 kv
  heads, vocabulary 4096, on 8 sequences of 256 tokens;
* lora_mid: PEFT's LoRA of rank 16 on all six projections of the mid shape (hidden 1024, 24 layers,
  FFN 3424, 16 heads of 64 and 2 kv heads, vocabulary 32768), on 2 sequences of 256 tokens.

f32, attention by `scaled_dot_product_attention`. Quote it beside a run of the bench on the same machine
in the same minutes.
"""

import argparse
import resource
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import Glm4Config, Glm4ForCausalLM


def model(hidden, layers, ffn, heads, vocab):
    config = Glm4Config(
        hidden_size=hidden,
        num_hidden_layers=layers,
        intermediate_size=ffn,
        num_attention_heads=heads,
        num_key_value_heads=2,
        head_dim=64,
        vocab_size=vocab,
        attention_bias=True,
        max_position_embeddings=512,
        pad_token_id=0,
        tie_word_embeddings=False,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    return Glm4ForCausalLM(config).train()


def measure(name, net, vocab, sequences, steps):
    trained = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    ids = torch.randint(0, vocab, (sequences, 256))
    best = 0.0
    for step in range(steps):
        start = time.perf_counter()
        loss = net(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        rate = ids.numel() / (time.perf_counter() - start)
        best = max(best, rate)
        print(f"{name} step {step}: {rate:.0f} tokens/s", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{name}: best {best:.0f} tokens/s, {peak:.2f} GB at most, torch {torch.__version__}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--only", choices=["small", "lora_mid"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.only != "lora_mid":
        measure("small", model(256, 6, 768, 4, 4096), 4096, 8, args.steps)
    if args.only != "small":
        projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"]
        lora = LoraConfig(r=16, lora_alpha=32, target_modules=projections)
        net = get_peft_model(model(1024, 24, 3424, 16, 32768), lora)
        measure("lora_mid", net, 32768, 2, args.steps)


if __name__ == "__main__":
    main()
