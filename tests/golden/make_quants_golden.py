"""Make quants.json beside this script: blocks of ggml's types as the Python package `gguf` dequantises them.

How to run (a developer's tool; neither the build nor the tests need it):
  pip install gguf numpy
  python make_quants_golden.py

For each type: four blocks side by side, and their elements as float32; both are little-endian bytes in hex. The
quants, and the 6-bit scales of super-blocks, are random bytes. The f16 scales and minima are random, except for
the last two blocks: the third has the largest f16 as scale and minimum, the fourth the smallest one above 0.
"""

import json
from pathlib import Path

import gguf
import numpy as np

TYPES = ["BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
# Where a block has f16 numbers; other bytes are whole numbers of some kind.
HALVES = {
    "Q4_0": [0],
    "Q4_1": [0, 2],
    "Q5_0": [0],
    "Q5_1": [0, 2],
    "Q8_0": [0],
    "Q4_K": [0, 2],
    "Q5_K": [0, 2],
    "Q6_K": [208],
}
LARGEST, SMALLEST = np.float16(65504), np.float16(2.0**-24)


def make(name, random):
    quant_type = gguf.GGMLQuantizationType[name]
    block_bytes = gguf.GGML_QUANT_SIZES[quant_type][1]
    if name == "BF16":
        blocks = random.standard_normal((4, 1)).astype("<f4").view("<u2")[:, 1:].copy().view(np.uint8)
    else:
        blocks = random.integers(0, 256, (4, block_bytes), dtype=np.uint8)
        for at in HALVES[name]:
            halves = (random.standard_normal(4) / 16).astype("<f2")
            halves[2:] = LARGEST, SMALLEST
            blocks[:, at : at + 2] = halves.view(np.uint8).reshape(4, 2)
    values = gguf.dequantize(blocks, quant_type).astype("<f4")
    assert np.isfinite(values).all()
    return {"type": name, "blocks": blocks.tobytes().hex(), "values": values.tobytes().hex()}


def main():
    random = np.random.default_rng(5)
    lines = [json.dumps(make(name, random)) for name in TYPES]
    path = Path(__file__).with_name("quants.json")
    path.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
    print(f"{path.name}: {len(lines)} types, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
