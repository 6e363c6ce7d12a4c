"""Make tiny.json beside this script: logits of a made-up model of each architecture, by transformers in float32.

How to run (a developer's tool; neither the build nor the tests need it):
  pip install gguf numpy transformers torch
  python make_tiny_golden.py

The models' weights are made by rule, in every type that is read, so that no file of weights is needed:
tests/tests/architectures/made.rs makes the same ones. Tensor n of TENSORS is a stream of bytes, the upper bytes of
x = x * 1664525 + 1013904223 (mod 2^32) from x = n on. A block of a quantised type is as many of them as it has bytes,
then its f16 numbers are overwritten with those of HALVES. A float is (byte - 128) / 1024; gains of norms are 1 more
than that, and biases are 8 times that.
"""

import json
from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

HIDDEN, FFN, VOCAB, LAYERS = 256, 512, 48, 2
HEADS, KV_HEADS, HEAD_DIM = 4, 2, 64
EPSILON, THETA = 1e-6, 1e6
SEQUENCES = [[7, 1, 42, 13, 13, 0, 47, 25, 31, 8, 19, 2], [40, 3, 3, 22, 9]]

# Per type, where a block's f16 numbers are, and their values.
HALVES = {
    "Q4_0": [(0, 2**-6)],
    "Q4_1": [(0, 2**-6), (2, -(2**-3))],
    "Q5_0": [(0, 2**-7)],
    "Q5_1": [(0, 2**-7), (2, -(2**-3))],
    "Q8_0": [(0, 2**-10)],
    "Q4_K": [(0, 2**-11), (2, 2**-8)],
    "Q5_K": [(0, 2**-12), (2, 2**-8)],
    "Q6_K": [(208, 2**-15)],
}


def layer(i, q, k, v, o, gate, up, down):
    return [
        (f"blk.{i}.attn_norm.weight", (HIDDEN,), "F32"),
        (f"blk.{i}.attn_q.weight", (HEADS * HEAD_DIM, HIDDEN), q),
        (f"blk.{i}.attn_q.bias", (HEADS * HEAD_DIM,), "F32"),
        (f"blk.{i}.attn_k.weight", (KV_HEADS * HEAD_DIM, HIDDEN), k),
        (f"blk.{i}.attn_k.bias", (KV_HEADS * HEAD_DIM,), "F32"),
        (f"blk.{i}.attn_v.weight", (KV_HEADS * HEAD_DIM, HIDDEN), v),
        (f"blk.{i}.attn_v.bias", (KV_HEADS * HEAD_DIM,), "F32"),
        (f"blk.{i}.attn_output.weight", (HIDDEN, HEADS * HEAD_DIM), o),
        (f"blk.{i}.ffn_norm.weight", (HIDDEN,), "F32"),
        (f"blk.{i}.ffn_gate.weight", (FFN, HIDDEN), gate),
        (f"blk.{i}.ffn_up.weight", (FFN, HIDDEN), up),
        (f"blk.{i}.ffn_down.weight", (HIDDEN, FFN), down),
    ]


TENSORS = [
    ("token_embd.weight", (VOCAB, HIDDEN), "Q8_0"),
    *layer(0, q="Q4_K", k="Q5_K", v="Q6_K", o="Q5_K", gate="Q4_1", up="Q4_0", down="Q6_K"),
    *layer(1, q="Q5_0", k="Q5_1", v="Q8_0", o="Q6_K", gate="F16", up="BF16", down="Q4_K"),
    ("output_norm.weight", (HIDDEN,), "F32"),
    ("output.weight", (VOCAB, HIDDEN), "Q6_K"),
]


def stream(seed, length):
    x, out = seed, np.empty(length, dtype=np.uint8)
    for i in range(length):
        x = (x * 1664525 + 1013904223) % 2**32
        out[i] = x >> 24
    return out


def make(seed, name, shape, type_name):
    """The tensor's values as float32."""
    if type_name not in HALVES:
        values = (stream(seed, int(np.prod(shape))).astype(np.float32) - 128) / 1024
        if name.endswith("norm.weight"):
            values += 1
        if name.endswith(".bias"):
            values *= 8
        return values.reshape(shape)
    quant_type = gguf.GGMLQuantizationType[type_name]
    block_len, block_bytes = gguf.GGML_QUANT_SIZES[quant_type]
    rows, columns = shape
    blocks = stream(seed, rows * columns // block_len * block_bytes).reshape(-1, block_bytes)
    for at, value in HALVES[type_name]:
        blocks[:, at : at + 2] = np.array([value], dtype="<f2").view(np.uint8)
    return gguf.dequantize(blocks.reshape(rows, -1), quant_type).astype(np.float32)


PARTS = {
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


def transformers_name(name):
    match name.split("."):
        case ["blk", i, part, kind]:
            return f"model.layers.{i}.{PARTS[part]}.{kind}"
        case ["token_embd", kind]:
            return f"model.embed_tokens.{kind}"
        case ["output_norm", kind]:
            return f"model.norm.{kind}"
        case ["output", kind]:
            return f"lm_head.{kind}"


def halves_order(rows):
    """Rows of llama's queries or keys in transformers' order: a GGUF file has pairs of a head side by side."""
    heads = rows.reshape(-1, HEAD_DIM // 2, 2, rows.shape[-1])
    return heads.swapaxes(1, 2).reshape(rows.shape)


@torch.inference_mode()
def logits_of(architecture, values):
    options = dict(
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        vocab_size=VOCAB,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        rms_norm_eps=EPSILON,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=architecture == "llama",
        attn_implementation="eager",
    )
    config, model = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    }[architecture]
    model = model(config(**options)).eval()
    state = {}
    for name, value in values.items():
        if architecture == "llama":
            # No biases; the embedding is the head.
            if name.endswith(".bias") or name == "output.weight":
                continue
            if name.endswith(("attn_q.weight", "attn_k.weight")):
                value = halves_order(value)
        state[transformers_name(name)] = torch.from_numpy(value)
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    return [model(torch.tensor([tokens])).logits[0].numpy() for tokens in SEQUENCES]


def main():
    values = {name: make(n, name, shape, kind) for n, (name, shape, kind) in enumerate(TENSORS)}
    models = []
    for architecture in ["llama", "qwen2"]:
        logits = logits_of(architecture, values)
        print(architecture, "logits' standard deviation", np.concatenate(logits).std())
        sequences = [
            {"tokens": tokens, "logits": [[float(f"{x:.7g}") for x in row] for row in rows]}
            for tokens, rows in zip(SEQUENCES, logits)
        ]
        models.append({"architecture": architecture, "sequences": sequences})
    path = Path(__file__).with_name("tiny.json")
    path.write_text("[\n" + ",\n".join(json.dumps(m) for m in models) + "\n]\n", encoding="utf-8")
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
