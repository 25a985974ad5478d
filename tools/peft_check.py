#!/usr/bin/env python3
"""LoRA adapters against Hugging Face PEFT itself, in both directions.

    # an adapter that PEFT made and saved, and transformers' logits with it: the golden data of
    # crates/lightglm/tests/train/peft.rs; the base is a folder of shared/fixtures
    tools/peft_check.py golden shared/fixtures/glm4 crates/lightglm/tests/data/peft_glm4
    tools/peft_check.py golden shared/fixtures/glm crates/lightglm/tests/data/peft_glm --rslora
    tools/peft_check.py golden crates/lightglm-model/tests/data/llama/qwen2 crates/lightglm/tests/data/peft_qwen2
    # and with whole weights of the head and the table, and adapters of them
    LLAMA=crates/lightglm-model/tests/data/llama DATA=crates/lightglm/tests/data/peft_saved
    tools/peft_check.py golden $LLAMA/qwen2 $DATA/untied --save lm_head embed_tokens
    tools/peft_check.py golden $LLAMA/llama_tied $DATA/tied_head --save lm_head
    tools/peft_check.py golden $LLAMA/llama_tied $DATA/tied_table --save embed_tokens
    tools/peft_check.py golden $LLAMA/llama_tied $DATA/tied_ensured --save embed_tokens --ensure-tying
    tools/peft_check.py golden $LLAMA/llama_tied $DATA/tied_lora --also lm_head embed_tokens
    tools/peft_check.py golden $LLAMA/qwen2 $DATA/untied_lora --also lm_head embed_tokens

    # an adapter that we trained and saved, loaded by PEFT: logits against those beside it
    LIGHTGLM_PEFT_OUT=OUT cargo test --release --workspace --test train -- --ignored
    tools/peft_check.py check shared/fixtures/glm4 OUT/glm4
    tools/peft_check.py check shared/fixtures/glm OUT/glm
    tools/peft_check.py check crates/lightglm-model/tests/data/llama/qwen2 OUT/qwen2

Both print one line of JSON with the largest difference; `check` fails above `--tolerance`, and where
PEFT finds a matrix missing or one too many.

Needs: pip install torch transformers peft safetensors
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

SCRIPT_VERSION = 2
PACKAGES = ("peft", "transformers", "torch", "safetensors")
PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "gate_proj", "up_proj", "down_proj"]
TOKENS = [5, 17, 300, 42, 42, 8, 119, 256, 3, 77, 200, 31]


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "script": str(SCRIPT_VERSION)}


def base_model(folder: str):
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    return model.eval()


def logits_of(model, tokens: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens).logits[0].contiguous()


def golden(arguments) -> None:
    out = pathlib.Path(arguments.out)
    model = base_model(arguments.base)
    tokens = torch.tensor([TOKENS]) % model.config.vocab_size
    plain = logits_of(model, tokens)
    # Not this machine's path, which PEFT would put in its place.
    base_name = "/".join(pathlib.Path(arguments.base).resolve().parts[-3:])
    modules = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    projections = [name for name in PROJECTIONS if name in modules]
    if arguments.save or arguments.also:
        # Small files: what is looked at is elsewhere.
        projections = ["q_proj", *arguments.also]
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, lora_dropout=0.05, target_modules=projections,
        use_rslora=arguments.rslora, modules_to_save=arguments.save or None,
        ensure_weight_tying=arguments.ensure_tying,
    )
    torch.manual_seed(20)
    model = get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = base_name
    for parameter_name, parameter in model.named_parameters():
        if ".lora_B." in parameter_name or ".lora_embedding_A." in parameter_name:
            # Zero by default, with which an adapter does nothing.
            torch.nn.init.normal_(parameter, std=0.1)
        if ".modules_to_save." in parameter_name:
            # As if it had been trained.
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.eval()
    logits = logits_of(model, tokens)
    model.save_pretrained(out)
    (out / "README.md").unlink(missing_ok=True)
    save_file({"tokens": tokens[0], "logits": logits}, out / "logits.safetensors")
    report = {
        "base": base_name, "versions": versions(),
        "largest_logit": float(logits.abs().max()),
        "largest_change": float((logits - plain).abs().max()),
    }
    (out / "meta.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report))


def check(arguments) -> None:
    folder = pathlib.Path(arguments.adapter)
    beside = load_file(folder / "logits.safetensors")
    tokens = beside["tokens"].reshape(1, -1)
    base = base_model(arguments.base)
    plain = logits_of(base, tokens)
    with warnings.catch_warnings():
        # PEFT only warns of adapter keys that are missing.
        warnings.simplefilter("error", UserWarning)
        model = PeftModel.from_pretrained(base, folder).eval()
    theirs = {name for name in model.state_dict() if ".lora_" in name}
    ours = load_file(folder / "adapter_model.safetensors")
    named = {name.replace(".weight", ".default.weight") for name in ours if ".lora_" in name}
    if theirs != named:
        sys.exit(f"matrices differ: {sorted(theirs ^ named)}")
    logits = logits_of(model, tokens)
    difference = float((logits - beside["logits"]).abs().max())
    print(json.dumps({
        "base": type(base).__name__, "matrices": len(ours), "versions": versions(),
        "largest_logit": float(logits.abs().max()),
        "largest_change": float((logits - plain).abs().max()),
        "largest_difference": difference,
    }))
    if not difference <= arguments.tolerance:
        sys.exit(f"logits differ by {difference}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("golden", help="write an adapter of PEFT's and its logits")
    command.add_argument("base")
    command.add_argument("out")
    command.add_argument("--rslora", action="store_true")
    command.add_argument("--save", nargs="*", default=[], help="modules_to_save; adapters on q_proj alone")
    command.add_argument("--also", nargs="*", default=[], help="adapters on these and on q_proj alone")
    command.add_argument("--ensure-tying", action="store_true")
    command.set_defaults(run=golden)
    command = commands.add_parser("check", help="load an adapter of ours into PEFT")
    command.add_argument("base")
    command.add_argument("adapter")
    command.add_argument("--tolerance", type=float, default=2e-4)
    command.set_defaults(run=check)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
