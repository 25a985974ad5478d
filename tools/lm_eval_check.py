#!/usr/bin/env python3
"""lm-evaluation-harness against a running server: 20 questions, scored by the probabilities of their answers.

    python3 -m venv venv && venv/bin/pip install 'lm-eval[api]>=0.4.9' transformers
    venv/bin/python tools/lm_eval_check.py --url http://127.0.0.1:8080 --tokenizer FOLDER

FOLDER has the tokenizer.json of the served model, by which the harness counts tokens. Checked is that it gets its
figures, that the server gives each answer the probability that it gave the same tokens when it chose them, and that
the answers are told apart better than by chance. Nothing is downloaded.
"""

import argparse
import json
import os
import sys
import tempfile
import urllib.request
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("OPENAI_API_KEY", "none")

QUESTIONS = [
    ("The capital of France is", [" Paris", " banana"]),
    ("The opposite of hot is", [" cold", " carpet"]),
    ("Two plus two is", [" four", " window"]),
    ("The sun rises in the", [" east", " spoon"]),
    ("A dog is an", [" animal", " equation"]),
    ("Water freezes into", [" ice", " piano"]),
    ("The first month of the year is", [" January", " hammer"]),
    ("Grass is usually", [" green", " electric"]),
    ("At night you can see the", [" moon", " invoice"]),
    ("Bread is made from", [" flour", " glass"]),
    ("Fish live in the", [" water", " ceiling"]),
    ("You read a", [" book", " puddle"]),
    ("A triangle has three", [" sides", " uncles"]),
    ("Ice cream is", [" cold", " Tuesday"]),
    ("Birds can", [" fly", " invoice"]),
    ("The doctor works in a", [" hospital", " teaspoon"]),
    ("To cut paper you need", [" scissors", " clouds"]),
    ("The color of the sky is", [" blue", " seven"]),
    ("She drank a glass of", [" water", " gravel"]),
    ("Monday comes before", [" Tuesday", " lemon"]),
]
TASK = """\
task: shop_questions
dataset_path: json
dataset_kwargs:
  data_files: {{test: "{data}"}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
target_delimiter: ""
metric_list:
  - metric: acc
metadata: {{version: 1}}
"""


def completions(url, **body):
    request = urllib.request.Request(
        url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)["choices"][0]


def scored_as_chosen(url):
    """The tokens of a reply, and the same tokens as part of a prompt, have the same probabilities."""
    prompt = "The opposite of hot is"
    said = completions(url, prompt=prompt, max_tokens=8, temperature=0, logprobs=1)
    again = completions(url, prompt=prompt + said["text"], max_tokens=0, echo=True, logprobs=1)
    chosen, scored = said["logprobs"], again["logprobs"]
    count = len(chosen["tokens"])
    assert scored["token_logprobs"][0] is None, scored
    assert scored["tokens"][-count:] == chosen["tokens"], (scored["tokens"], chosen["tokens"])
    worst = max(
        abs(a - b) for a, b in zip(scored["token_logprobs"][-count:], chosen["token_logprobs"])
    )
    # Int8 activations are rounded for each pass; a wrong row would be off by whole nats.
    assert worst < 0.2, worst
    return worst


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--url", required=True)
    arguments.add_argument("--tokenizer", required=True)
    arguments = arguments.parse_args()
    print(f"ok: chosen and scored tokens agree within {scored_as_chosen(arguments.url):.4f} nats")

    import lm_eval
    from lm_eval.tasks import TaskManager

    with urllib.request.urlopen(arguments.url + "/v1/models", timeout=60) as answer:
        model = json.load(answer)["data"][0]["id"]
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder, "questions.jsonl")
        lines = (json.dumps({"question": q, "choices": c}) for q, c in QUESTIONS)
        data.write_text("\n".join(lines) + "\n", encoding="utf-8")
        Path(folder, "shop_questions.yaml").write_text(TASK.format(data=data), encoding="utf-8")
        os.environ["HF_DATASETS_CACHE"] = str(Path(folder, "cache"))
        results = lm_eval.simple_evaluate(
            model="local-completions",
            model_args={
                "model": model,
                "base_url": arguments.url + "/v1/completions",
                "tokenizer_backend": "huggingface",
                "tokenizer": arguments.tokenizer,
                "max_length": 512,
                "num_concurrent": 2,
                "batch_size": 4,
            },
            tasks=["shop_questions"],
            task_manager=TaskManager(include_path=folder, include_defaults=False),
            bootstrap_iters=0,
            log_samples=True,
        )
    samples = results["samples"]["shop_questions"]
    accuracy = results["results"]["shop_questions"]["acc,none"]
    assert len(samples) == len(QUESTIONS), len(samples)
    for sample in samples:
        for (logprob, _), in [[r] for r in sample["filtered_resps"]]:
            assert -100 < logprob < 0, sample
    assert accuracy > 0.7, accuracy
    print(f"ok: lm-evaluation-harness {lm_eval.__version__}, {len(samples)} questions, accuracy {accuracy:.2f}")


if __name__ == "__main__":
    sys.exit(main())
