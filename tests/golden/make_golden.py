"""Make the golden files beside this script from an independent float32 implementation.

What is written (into the output folder), for SmolLM2-135M-Instruct in Q4_1:
  smollm2-135m-q4_1.json  for each prompt of prompts.json: its token ids, 64 greedy tokens, and logits
  tokenizer.json          texts and their token ids
  chat_template.json      conversations as the model's own chat template renders them
and for Qwen2.5-Coder-0.5B-Instruct in Q4_K_M:
  qwen2.5-coder-0.5b-q4_k_m.json  the same for the first 8 prompts and 32 greedy tokens
  qwen2-tokenizer.json
  qwen2-chat_template.json

How to run (a developer's tool; neither the build nor the tests need it):
  pip install gguf numpy tokenizers transformers torch
  python make_golden.py MODEL.gguf OUTPUT_FOLDER
The CPU is enough: it takes a few minutes and about 2 GB of memory, 5 GB for Qwen. With llama-cpp-python installed
too, every tokenisation is compared with llama.cpp's, and a difference is an error. llama.cpp does not compose letters
and marks (NFC) for Qwen, as its own tokenizer does, so it gets texts that are composed already.

Where the numbers come from:
  * The weights are dequantised to float32 and run by transformers in float32 (eager attention, CPU).
    No activation is quantised, so an engine that does quantise them agrees to its own rounding only:
    "gap" says how far apart the reference's two best logits were at each step.
  * The prompt is tokenised as raw text: no beginning-of-text token, and special tokens that are spelled
    out in the text (<|im_start|>) become their single ids.
  * "greedy" is the argmax for 64 (or 32) steps, going on past end-of-text tokens.
  * "logits_last" holds the 16 best ids, best first, then 16 ids spread evenly over the vocabulary
    (which may repeat one of the first). Standard deviations are the population's. Floats have 6 significant digits.
"""

import argparse
import hashlib
import json
import platform
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers


@dataclass
class Subject:
    """A model that golden files are made of."""

    logits: str
    prefix: str
    prompts: int
    greedy_steps: int


# By the pre-tokenizer that the file names.
SUBJECTS = {
    "smollm": Subject("smollm2-135m-q4_1.json", "", prompts=20, greedy_steps=64),
    "qwen2": Subject("qwen2.5-coder-0.5b-q4_k_m.json", "qwen2-", prompts=8, greedy_steps=32),
}
# Of Qwen's own tokenizer.json.
QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CONTROL, USER_DEFINED = 3, 4  # ggml's token types

TOP = 16
SPREAD = 16
STRIDE = 97  # of logits_full_every_97
FULL_LOGITS_PROMPTS = 2

TOKENIZER_TEXTS = [
    "",
    " ",
    "  ",
    "       ",
    "\n",
    "\n\n",
    "\n\n\n\n",
    "\t",
    "\t\t\tindented",
    " \n \t \r\n",
    "Hello world",
    " Hello world",
    "  Hello  world  ",
    "Hello\nworld\n",
    "Hello\n\n\nworld",
    "trailing space ",
    "trailing spaces    ",
    "a b  c   d    e     f",
    "0",
    "1234567890",
    "In 2024, 3.14159 and -273.15 were 42nd.",
    "x  1",
    "x   12   345",
    "line\n\n1. first\n\n2. second\n   3. third",
    "\n\n\n42\t\t7  8 9",
    "price: $1,299.99 (10% off!)",
    "½ ² Ⅷ ٣ १२३ 七",
    "I'm you're he'll they've we'd it's can't",
    "I'M YOU'RE HE'LL IT'S 'tis rock 'n' roll",
    "it’s a “quoted” word — with an em‑dash…",
    "CamelCase snake_case kebab-case SCREAMING_CASE",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "!!!???...,,,;;;:::",
    "#@$%^&*()_+-=[]{}|\\;':\",./<>?`~",
    "https://example.org/a/b?c=1&d=%20#frag",
    "user.name+tag@example.org",
    "def f(x):\n    if x > 0:\n        return x ** 2\n    return -1\n",
    "\tfor (int i = 0; i < 10; ++i) {\n\t\tsum += a[i];\n\t}\n",
    "fn main() -> Result<(), Box<dyn Error>> { Ok(()) }",
    "<div class=\"x\">\n  <p>Hi&nbsp;there</p>\n</div>",
    "{\"key\": [1, 2.5, null, true], \"nested\": {\"a\": \"b\"}}",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "éàüñçøß ÆŒ Łódź Ťažký",
    "e\u0301 decomposed vs \u00e9 composed",
    "Привет, мир! Как дела?",
    "Γειά σου Κόσμε",
    "שלום עולם",
    "مرحبا بالعالم",
    "नमस्ते दुनिया",
    "สวัสดีชาวโลก",
    "你好，世界！今天是2024年5月1日。",
    "こんにちは世界。カタカナ",
    "안녕하세요 세계",
    "emoji 😀 and 🎉🎉 done",
    "👩‍👩‍👧‍👦 👍🏽 🇫🇷 ❤️",
    "𝒻𝒶𝓃𝒸𝓎 𝟙𝟚𝟛",
    "a\u00a0b\u2003c\u3000d\u200be",
    "\u00a0\u00a0leading no-break spaces",
    "\ufeffbyte order mark",
    "control \u0000 \u0001 \u007f \u0085 chars",
    # The vocabulary has no token for 21 of the 256 bytes, U+0004 and F1 among them: they are left out.
    "a\u0004b \u0006\u0006 c \U00040000 d",
    "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n",
    "<|im_start|>system\nYou are terse.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n",
    "a<|endoftext|>b <|endoftext|> c",
    "<|im_start|><|im_end|><|endoftext|>",
    "not special: <|im_start <|im_end|| |im_end|> <|unknown|>",
    "<file_sep>x<filename>main.rs<reponame>shardrun",
    "Mixed: 3x faster—about 1.5×—than  v2.0\t(β)\r\n  • done ✓",
]

SYSTEM = {"role": "system", "content": "You answer in one short sentence."}


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


# (messages, add_generation_prompt)
CHATS = [
    ([user("What is machine learning?")], True),
    ([SYSTEM, user("What is machine learning?")], True),
    ([user("Hi"), assistant("Hello! How can I help?"), user("Name a prime above 90.")], True),
    ([SYSTEM, user("2+2?"), assistant("4."), user("And 3+3?"), assistant("6."), user("Their sum?")], True),
    ([SYSTEM, user("2+2?"), assistant("4.")], False),
    ([user("  Spaces, \"quotes\", {{ braces }}, <tags> & a\nnew line: café 🎉  ")], True),
    ([{"role": "system", "content": ""}, user("")], True),
]


def six(x):
    """x rounded to 6 significant digits."""
    return float(f"{float(x):.6g}")


def pre_tokenizer_of(model_path):
    pre = gguf.GGUFReader(model_path).get_field("tokenizer.ggml.pre").contents()
    if pre not in SUBJECTS:
        raise SystemExit(f"tokenizer.ggml.pre is {pre!r}; this script knows {', '.join(SUBJECTS)}")
    return pre


def smollm_tokenizer(model_path):
    """The GGUF's tokenizer, with the pre-tokenizer that its metadata names.

    transformers gives every "gpt2" vocabulary GPT-2's own pre-tokenizer. "smollm" means that each digit is split
    off first; without that, runs of white space before a digit come out differently.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_path.parent, gguf_file=model_path.name)
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    return tokenizer


def qwen2_tokenizer(model_path):
    """The GGUF's vocabulary and merges in a tokenizer that is made as Qwen's own tokenizer.json says."""
    reader = gguf.GGUFReader(model_path)
    field = lambda key: reader.get_field(f"tokenizer.{key}").contents()
    tokens, types = field("ggml.tokens"), field("ggml.token_type")
    merges = [tuple(merge.split(" ")) for merge in field("ggml.merges")]
    backend = tokenizers.Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(tokens)}, merges=merges))
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    added = [(token, kind) for token, kind in zip(tokens, types) if kind in (CONTROL, USER_DEFINED)]
    backend.add_tokens(
        [tokenizers.AddedToken(token, special=kind == CONTROL, normalized=False) for token, kind in added]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=tokens[field("ggml.eos_token_id")],
        chat_template=field("chat_template"),
    )


def load_tokenizer(model_path):
    return {"smollm": smollm_tokenizer, "qwen2": qwen2_tokenizer}[pre_tokenizer_of(model_path)](model_path)


def encode(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def check_with_llama_cpp(model_path, cases):
    """Compares (text, ids) pairs with llama.cpp's tokenizer, where that is installed."""
    try:
        import llama_cpp
    except ImportError:
        print("llama-cpp-python is not installed: tokenisations are not cross-checked")
        return
    llama = llama_cpp.Llama(str(model_path), vocab_only=True, verbose=False)
    compose = pre_tokenizer_of(model_path) == "qwen2"
    different = 0
    for text, ids in cases:
        text = unicodedata.normalize("NFC", text) if compose else text
        theirs = llama.tokenize(text.encode(), add_bos=False, special=True) if text else []
        if theirs != ids:
            different += 1
            print(f"differs from llama.cpp: {text!r}\n  here      {ids}\n  llama.cpp {theirs}")
    if different:
        raise SystemExit(f"{different} of {len(cases)} tokenisations differ from llama.cpp's")
    print(f"{len(cases)} tokenisations agree with llama.cpp's (llama-cpp-python {llama_cpp.__version__})")


@torch.inference_mode()
def run_prompt(model, text, ids, greedy_steps, with_full_logits):
    out = model(torch.tensor([ids]), use_cache=True)
    last = out.logits[0, -1].numpy()
    greedy, gaps = [], []
    for step in range(greedy_steps):
        best = torch.topk(out.logits[0, -1], 2)
        greedy.append(int(best.indices[0]))
        gaps.append(six(best.values[0] - best.values[1]))
        if step + 1 < greedy_steps:
            out = model(torch.tensor([greedy[-1:]]), past_key_values=out.past_key_values, use_cache=True)

    top = np.argsort(-last, kind="stable")[:TOP]
    spread = np.arange(SPREAD) * (len(last) // SPREAD) + 17
    chosen = [int(i) for i in np.concatenate([top, spread])]
    record = {
        "text": text,
        "ids": ids,
        "greedy": greedy,
        "gap": gaps,
        "logits_last": {"ids": chosen, "values": [six(last[i]) for i in chosen]},
        "logit_stats": {
            "mean": six(last.mean(dtype=np.float64)),
            "std": six(last.std(dtype=np.float64)),
            "max": six(last.max()),
            "argmax": int(last.argmax()),
        },
    }
    if with_full_logits:
        record[f"logits_full_every_{STRIDE}"] = [six(x) for x in last[::STRIDE]]
    return record


def write(path, head, key, records):
    """Writes one record a line, so that a change shows as a readable diff."""
    lines = [json.dumps(r, ensure_ascii=False, separators=(",", ":")) for r in records]
    start = "".join(f"{json.dumps(k)}: {json.dumps(v)},\n" for k, v in head.items())
    path.write_text("{" + start + f'"{key}": [\n' + ",\n".join(lines) + "\n]}\n", encoding="utf-8")
    print(f"{path.name}: {len(records)} records, {path.stat().st_size} bytes")


def main():
    parser = argparse.ArgumentParser(description="Makes the golden files; see the top of this script.")
    parser.add_argument("model", type=Path, help="a GGUF file of one of the models above")
    parser.add_argument("out", type=Path, help="the folder to write into")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    subject = SUBJECTS[pre_tokenizer_of(args.model)]
    prompts = json.loads(Path(__file__).with_name("prompts.json").read_text(encoding="utf-8"))[: subject.prompts]
    tokenizer = load_tokenizer(args.model)
    prompt_ids = [encode(tokenizer, text) for text in prompts]
    texts = [(text, encode(tokenizer, text)) for text in TOKENIZER_TEXTS]
    check_with_llama_cpp(args.model, texts + list(zip(prompts, prompt_ids)))
    write(args.out / f"{subject.prefix}tokenizer.json", {}, "cases", [{"text": t, "ids": i} for t, i in texts])

    chats = []
    for messages, generate in CHATS:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False)
        chats.append({"messages": messages, "add_generation_prompt": generate, "text": text})
    write(args.out / f"{subject.prefix}chat_template.json", {}, "cases", chats)

    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model.parent, gguf_file=args.model.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    records = []
    for n, (text, ids) in enumerate(zip(prompts, prompt_ids)):
        records.append(run_prompt(model, text, ids, subject.greedy_steps, n < FULL_LOGITS_PROMPTS))
        print(f"{n + 1}/{len(prompts)}: {len(ids)} tokens, then {tokenizer.decode(records[-1]['greedy'])!r}")
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "numpy": np.__version__,
    }
    head = {
        "model_sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "made_with": ", ".join(f"{name} {version}" for name, version in versions.items()) + "; float32 on the CPU",
    }
    write(args.out / subject.logits, head, "prompts", records)


if __name__ == "__main__":
    main()
