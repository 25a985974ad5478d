#!/usr/bin/env python3
"""transformers on one checkpoint in bf16, for compare.py: a prompt and decode steps, timed.

    pip install torch transformers
    python3 tools/compare_torch.py CHECKPOINT_FOLDER [--threads 2] [--prefill 512] [--decode 64]

Prints one JSON object. Each is done once before it is timed; the logits are those of the last token alone.
"""

import argparse
import json
import time

import torch
import transformers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--prefill", type=int, default=512)
    parser.add_argument("--decode", type=int, default=64)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = transformers.AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.bfloat16).eval()
    prompt = torch.randint(0, model.config.vocab_size, (1, options.prefill))

    def prefill():
        model(input_ids=prompt, logits_to_keep=1)

    def decode(steps):
        ids, cache = prompt[:, :1], transformers.DynamicCache(config=model.config)
        for _ in range(steps):
            logits = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
            ids = logits[:, -1:].argmax(-1)

    def rate(tokens, work, *arguments):
        start = time.perf_counter()
        work(*arguments)
        return tokens / (time.perf_counter() - start)

    with torch.inference_mode():
        prefill()
        prefill_rate = rate(options.prefill, prefill)
        decode(4)
        decode_rate = rate(options.decode, decode, options.decode)
    print(json.dumps({"prefill_tokens_per_s": prefill_rate, "decode_tokens_per_s": decode_rate}))


if __name__ == "__main__":
    main()
