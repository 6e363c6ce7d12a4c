"""What a GGUF file asks of a machine: bytes that each token reads, and operations that it takes."""

import math
import struct
from dataclasses import dataclass

# Elements of a block and its bytes, by the number of the type.
TYPES = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2),
}  # fmt: skip
SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
STRING, ARRAY = 8, 9


@dataclass
class Weights:
    """Sizes of the tensors that a token passes through."""

    bytes: int
    layer_parameters: int
    head_parameters: int


class Reader:
    def __init__(self, file):
        self.file = file

    def number(self, form="<Q"):
        return struct.unpack(form, self.file.read(struct.calcsize(form)))[0]

    def string(self):
        return self.file.read(self.number()).decode(errors="replace")

    def skip(self, kind):
        if kind == STRING:
            self.file.seek(self.number(), 1)
        elif kind == ARRAY:
            kind, count = self.number("<I"), self.number()
            if kind in SCALARS:
                self.file.seek(SCALARS[kind] * count, 1)
            else:
                for _ in range(count):
                    self.skip(kind)
        else:
            self.file.seek(SCALARS[kind], 1)


def read(path):
    """The weights of a file, which shardrun or llama.cpp have found good."""
    with open(path, "rb") as file:
        reader = Reader(file)
        file.seek(8)  # the magic number and the version
        tensors, pairs = reader.number(), reader.number()
        for _ in range(pairs):
            reader.string()
            reader.skip(reader.number("<I"))
        shapes = {}
        for _ in range(tensors):
            name = reader.string()
            shape = [reader.number() for _ in range(reader.number("<I"))]
            shapes[name] = (shape, reader.number("<I"))
            reader.number()  # the offset
    # Without a head of its own a model reads its embeddings as one; else it reads one row of them.
    head = "output.weight" if "output.weight" in shapes else "token_embd.weight"
    read = {name: of for name, of in shapes.items() if name in (head,) or not name.startswith("token_embd")}
    matrices = {name: math.prod(shape) for name, (shape, _) in read.items() if len(shape) > 1}
    return Weights(
        bytes=sum(math.prod(shape) // TYPES[kind][0] * TYPES[kind][1] for shape, kind in read.values()),
        layer_parameters=sum(matrices.values()) - matrices[head],
        head_parameters=matrices[head],
    )
