"""Writes gguf_blocks.safetensors: random GGUF blocks and what the `gguf` package makes of them.

Made with gguf 0.19.0, numpy 2.4.6, Python 3.11.7:

    python gguf_blocks.py gguf_blocks.safetensors

Each type has `<TYPE>.blocks` (U8, four blocks of random bits with finite scales) and `<TYPE>.values`
(F32). The versions stand in the file's metadata too.
"""

import json
import platform
import struct
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from importlib.metadata import version

# Where each type's block has its binary16 numbers.
SCALES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0],
    T.Q2_K: [80, 82], T.Q3_K: [108], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208],
    T.BF16: [], T.F16: [], T.IQ4_NL: [0], T.IQ4_XS: [0],
}
BLOCKS = 4

random = np.random.default_rng(20250414)
tensors = {}
for kind, places in SCALES.items():
    _, size = gguf.GGML_QUANT_SIZES[kind]
    count = BLOCKS if places else 64
    if places:
        blocks = random.integers(0, 256, (count, size), dtype=np.uint8)
        for place in places:
            scale = random.normal(0, 0.01, count).astype(np.float16)
            blocks[:, place : place + 2] = scale.view(np.uint8).reshape(count, 2)
    else:
        plain = random.normal(0, 1, count).astype(np.float32)
        blocks = (plain.astype(np.float16) if kind == T.F16
                  else (plain.view(np.uint32) >> 16).astype(np.uint16)).view(np.uint8).reshape(count, 2)
    values = gguf.quants.dequantize(blocks, kind).astype("<f4")
    tensors[f"{kind.name}.blocks"] = ("U8", blocks)
    tensors[f"{kind.name}.values"] = ("F32", values)

header = {"__metadata__": {"gguf": version("gguf"), "numpy": np.__version__,
                           "python": platform.python_version()}}
data = b""
for name, (dtype, array) in sorted(tensors.items()):
    raw = array.tobytes()
    header[name] = {"dtype": dtype, "shape": [array.size], "data_offsets": [len(data), len(data) + len(raw)]}
    data += raw
header = json.dumps(header).encode()
header += b" " * (-len(header) % 8)
with open(sys.argv[1], "wb") as out:
    out.write(struct.pack("<Q", len(header)) + header + data)
