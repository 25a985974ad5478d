#!/usr/bin/env python3
"""Our compressed-tensors files against the package `compressed-tensors` itself, in both directions.

    # our export, loaded and decompressed by the package, against what we make of it
    target/release/examples/export --model M --format int-quantized --dequantized ours.safetensors OUT
    tools/check_compressed_tensors.py decompress OUT ours.safetensors

    # the same export as a transformers model: logits with the package's weights
    tools/check_compressed_tensors.py logits OUT --tokens 5,6,7,8 --dense ours.safetensors

    # small layers that the package compressed, and what it decompresses them to: the golden data of
    # crates/lightglm-quant/tests/compressed_tensors.rs
    tools/check_compressed_tensors.py golden crates/lightglm-quant/tests/data

Needs: pip install torch transformers compressed-tensors safetensors numpy
"""

import argparse
import importlib.metadata
import json
import pathlib
import platform
import sys

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.utils import calculate_qparams
from compressed_tensors.utils.match import match_name
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SCRIPT_VERSION = 1
PACKAGES = ("compressed-tensors", "torch", "transformers", "safetensors")


def versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in PACKAGES}
    return found | {"python": platform.python_version(), "script": str(SCRIPT_VERSION)}


def layers_of(tensors: dict) -> list[str]:
    """Names of the quantized layers, without `.weight`."""
    return sorted(name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale"))


def decompress_layer(tensors: dict, layer: str, config: QuantizationConfig) -> torch.Tensor:
    """The layer's weight as the package's compressor of its format gives it."""
    assert not any(match_name(layer, ignored) for ignored in config.ignore), layer
    (scheme,) = config.config_groups.values()
    compressor = BaseCompressor.get_value_from_registry(scheme.format or config.format)
    names = compressor.compression_param_names(scheme)
    state = {name: tensors[f"{layer}.{name}"] for name in names}
    present = {name.rpartition(".")[2] for name in tensors if name.rpartition(".")[0] == layer}
    if present - {"bias"} != set(names):
        sys.exit(f"{layer}: has {sorted(present)}, the package asks for {sorted(names)}")
    return compressor.decompress(state, scheme)["weight"]


def decompress(arguments) -> None:
    folder = pathlib.Path(arguments.folder)
    tensors = load_file(folder / "model.safetensors")
    ours = load_file(arguments.ours)
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    config = QuantizationConfig.model_validate(config)
    layers = layers_of(tensors)
    wrong, largest, elements = 0, 0.0, 0
    for layer in layers:
        theirs = decompress_layer(tensors, layer, config)
        mine = ours[f"{layer}.weight"]
        assert theirs.dtype == mine.dtype == torch.float32, (layer, theirs.dtype, mine.dtype)
        assert theirs.shape == mine.shape, (layer, theirs.shape, mine.shape)
        equal = torch.equal(theirs.view(torch.int32), mine.view(torch.int32))
        equal = equal or torch.equal(theirs, mine)  # a zero's sign
        elements += mine.numel()
        if not equal:
            wrong += 1
            scale = theirs.abs().max()
            largest = max(largest, float((theirs - mine).abs().max() / scale))
    for name, tensor in tensors.items():
        if name.rpartition(".")[0] not in layers:
            assert torch.equal(tensor.view(torch.uint8), ours[name].view(torch.uint8)), name
    extra = set(ours) - set(tensors) - {f"{layer}.weight" for layer in layers}
    assert not extra, extra
    print(json.dumps({
        "layers": len(layers), "elements": elements, "layers_that_differ": wrong,
        "largest_difference_of_the_largest_weight": largest, "versions": versions(),
    }))
    if wrong and largest > arguments.tolerance:
        sys.exit(f"{wrong} of {len(layers)} layers differ")


def logits(arguments) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = pathlib.Path(arguments.folder)
    tokens = torch.tensor([[int(token) for token in arguments.tokens.split(",")]])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    with torch.no_grad():
        compressed = model(tokens).logits
    # The same architecture, unquantized, with our dequantized weights: the difference is what the
    # activations' quantization does.
    config = AutoConfig.from_pretrained(folder)
    del config.quantization_config
    dense = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    result = dense.load_state_dict(load_file(arguments.dense), strict=False)
    assert not result.unexpected_keys, result
    dense.tie_weights()
    dense.eval()
    with torch.no_grad():
        plain = dense(tokens).logits
    quantized = [name for name, module in model.named_modules() if hasattr(module, "quantization_scheme")]
    # The package decompressed on the first forward pass.
    weights = dict(model.named_parameters())
    same = sum(
        torch.equal(weights[f"{name}.weight"], dense.get_parameter(f"{name}.weight")) for name in quantized
    )
    if arguments.out:
        save_file({"logits": compressed.contiguous(), "dense_logits": plain.contiguous(),
                   "tokens": tokens}, arguments.out, metadata=versions())
    print(json.dumps({
        "model": type(model).__name__, "quantized_layers": len(quantized), "equal_weights": same,
        "largest_logit": float(plain.abs().max()),
        "largest_difference": float((compressed - plain).abs().max()), "versions": versions(),
    }))
    if same != len(quantized):
        sys.exit("weights differ")


# Name, bits, strategy, group size, symmetric, scale dtype, shape.
GOLDEN = [
    ("w8a8", "int-quantized", 8, "channel", None, True, torch.float32, (17, 40)),
    ("w8a8_asymmetric", "int-quantized", 8, "channel", None, False, torch.float32, (9, 24)),
    ("w4a16", "pack-quantized", 4, "group", 32, True, torch.float32, (17, 96)),
    ("w4a16_bf16", "pack-quantized", 4, "group", 32, True, torch.bfloat16, (8, 64)),
    ("w4a16_asymmetric", "pack-quantized", 4, "group", 32, False, torch.float32, (17, 96)),
    ("w4a16_asymmetric_bf16", "pack-quantized", 4, "group", 16, False, torch.bfloat16, (11, 48)),
    ("w4a16_channel", "pack-quantized", 4, "channel", None, True, torch.float32, (5, 44)),
    ("w8a16", "pack-quantized", 8, "group", 16, True, torch.float16, (5, 48)),
    ("w8a16_asymmetric", "pack-quantized", 8, "channel", None, False, torch.float32, (6, 42)),
]


def golden(arguments) -> None:
    folder = pathlib.Path(arguments.folder)
    torch.manual_seed(20251125)
    tensors, configs = {}, {}
    for name, form, bits, strategy, group_size, symmetric, dtype, shape in GOLDEN:
        weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy}
        weights |= {"group_size": group_size, "dynamic": False}
        inputs = None
        if form == "int-quantized":
            inputs = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}
        config = QuantizationConfig.model_validate({
            "quant_method": "compressed-tensors", "format": form, "quantization_status": "compressed",
            "ignore": ["lm_head"],
            "config_groups": {"group_0": {
                "targets": ["Linear"], "weights": weights, "input_activations": inputs,
                "format": form,
            }},
        })
        scheme = config.config_groups["group_0"]
        dense = torch.randn(shape) * 0.05 + 0.01
        groups = dense.unflatten(-1, (-1, group_size or shape[1]))
        scale, zero = calculate_qparams(groups.amin(-1), groups.amax(-1), scheme.weights)
        # What a 16-bit scale holds; zero points are whole numbers.
        scale, zero = scale.to(dtype), zero.round().to(torch.int8)
        compressor = BaseCompressor.get_value_from_registry(form)
        state = {"weight": dense.to(dtype), "weight_scale": scale, "weight_zero_point": zero}
        compressed = compressor.compress(state, scheme)
        assert set(compressed) == set(compressor.compression_param_names(scheme)), compressed.keys()
        decompressed = compressor.decompress(compressed, scheme)["weight"]
        # With scales in f32 the package multiplies in f32: what 16-bit scales mean before rounding.
        exact = compressor.decompress(compressed | {"weight_scale": scale.float()}, scheme)["weight"]
        assert torch.equal(exact.to(dtype), decompressed), name
        tensors |= {f"{name}.{part}": value.contiguous() for part, value in compressed.items()}
        tensors[f"{name}.dequantized"] = exact.contiguous()
        configs[name] = {"quantization_config": config.model_dump(mode="json")}
    save_file(tensors, folder / "compressed_tensors.safetensors", metadata=versions())
    text = json.dumps({"versions": versions(), "configs": configs}, indent=1)
    (folder / "compressed_tensors.json").write_text(text + "\n")
    print(json.dumps({"layers": len(GOLDEN), "versions": versions()}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("decompress")
    command.add_argument("folder")
    command.add_argument("ours")
    command.add_argument("--tolerance", type=float, default=0.0,
                         help="largest difference, as a share of a layer's largest weight")
    command.set_defaults(run=decompress)
    command = commands.add_parser("logits")
    command.add_argument("folder")
    command.add_argument("--tokens", required=True)
    command.add_argument("--dense", required=True)
    command.add_argument("--out")
    command.set_defaults(run=logits)
    command = commands.add_parser("golden")
    command.add_argument("folder")
    command.set_defaults(run=golden)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
