"""Make sampling.json beside this script from transformers' own logits processors and beam search.

What is written (into the output folder):
  sampling.json  "rows": a row of logits, the tokens before it and the parameters; what the processors make of the
                 logits ("processed", null for a token that is banned), and the tokens that the warpers keep ("kept").
                 "beams": parameters of a beam search over the rows of "table", of which (last token + tokens so far)
                 modulo the vocabulary is the one for the next token, and the sequences that come back, best first.

How to run (a developer's tool; neither the build nor the tests need it):
  pip install torch transformers
  python make_sampling_golden.py OUTPUT_FOLDER
It takes seconds.

Where the numbers come from:
  * Logits are normally distributed, rounded to 3 decimals, and differ within a row, so that no tie hides a rule.
  * Processors run in the order repetition penalty, n-grams, bad words, min new tokens, temperature; then the warpers
    top-k, top-p and min-p.
  * The beam search is transformers' generate() on a model that looks its logits up. "early_stopping" is 1 for
    True, 0 for False, 2 for "never". A sequence is given without its end token; its score counts it.
"""

import argparse
import json
import platform
from pathlib import Path

import torch
import transformers
from transformers.generation import logits_process as lp
from transformers.modeling_outputs import CausalLMOutput

VOCAB = 40
END_ID = 7
TABLE_VOCAB = 9
TABLE_END_ID = 3
TABLE_PROMPT = [1, 5]

# (tokens before, how many of them are the prompt, parameters)
ROWS = [
    ([4, 9, 9, 23], 2, {"repetition_penalty": 1.7}),
    ([4, 9, 9, 23], 2, {"repetition_penalty": 0.6}),
    ([5, 6, 11, 5, 6, 12, 5, 6], 3, {"no_repeat_ngram_size": 3}),
    ([5, 6, 11, 5], 1, {"no_repeat_ngram_size": 1}),
    ([5, 6], 1, {"no_repeat_ngram_size": 3}),
    ([8, 2, 3], 2, {"bad_words": [[2, 3, 30], [3, 31], [32], [4, 33], [9, 8, 2, 3, 34], [8, 2, 3, 35]]}),
    ([1, 2, 3, 4], 1, {"min_tokens": 4}),
    ([1, 2, 3, 4, 5], 1, {"min_tokens": 4}),
    ([1], 1, {"temperature": 0.35}),
    ([1], 1, {"top_k": 5}),
    ([1], 1, {"top_p": 0.8}),
    ([1], 1, {"min_p": 0.15}),
    ([1], 1, {"temperature": 1.8, "top_k": 20, "top_p": 0.9, "min_p": 0.12}),
    (
        [5, 6, 11, 7, 5, 6],
        3,
        {
            "repetition_penalty": 1.3,
            "no_repeat_ngram_size": 3,
            "bad_words": [[6, 20], [21]],
            "min_tokens": 10,
            "temperature": 0.7,
            "top_k": 25,
            "top_p": 0.95,
            "min_p": 0.01,
        },
    ),
]

# (width, sequences, length penalty, early stopping, max tokens)
BEAMS = [
    (2, 2, 0.0, 1, 6),
    (3, 3, 1.5, 1, 10),
    (3, 3, 1.5, 0, 10),
    (3, 3, 1.5, 2, 10),
    (4, 4, -0.7, 2, 8),
    (4, 2, 0.0, 0, 12),
    (8, 5, 0.6, 0, 5),
]


def processors(prompt_len, parameters):
    """The processors and the warpers that the parameters name."""
    changes, warpers = [], []
    if "repetition_penalty" in parameters:
        changes.append(lp.RepetitionPenaltyLogitsProcessor(parameters["repetition_penalty"]))
    if "no_repeat_ngram_size" in parameters:
        changes.append(lp.NoRepeatNGramLogitsProcessor(parameters["no_repeat_ngram_size"]))
    if "bad_words" in parameters:
        changes.append(lp.NoBadWordsLogitsProcessor(parameters["bad_words"]))
    if "min_tokens" in parameters:
        changes.append(lp.MinNewTokensLengthLogitsProcessor(prompt_len, parameters["min_tokens"], END_ID))
    if "temperature" in parameters:
        changes.append(lp.TemperatureLogitsWarper(parameters["temperature"]))
    if "top_k" in parameters:
        warpers.append(lp.TopKLogitsWarper(parameters["top_k"]))
    if "top_p" in parameters:
        warpers.append(lp.TopPLogitsWarper(parameters["top_p"]))
    if "min_p" in parameters:
        warpers.append(lp.MinPLogitsWarper(parameters["min_p"]))
    return changes, warpers


def rounded_logits(*shape):
    while True:
        logits = (2 * torch.randn(*shape, dtype=torch.float64)).round(decimals=3)
        if all(len(row.unique()) == len(row) for row in logits.reshape(-1, shape[-1])):
            return logits


def listed(logits):
    return [round(x, 3) for x in logits.tolist()]


def row_record(tokens, prompt_len, parameters):
    logits = rounded_logits(VOCAB)
    ids, scores = torch.tensor([tokens]), logits.float()[None]
    changes, warpers = processors(prompt_len, parameters)
    for change in changes:
        scores = change(ids, scores)
    processed = [None if x == -torch.inf else float(f"{x:.6g}") for x in scores[0].tolist()]
    for warper in warpers:
        scores = warper(ids, scores)
    return {
        "tokens": tokens,
        "prompt": prompt_len,
        **parameters,
        "logits": listed(logits),
        "processed": processed,
        "kept": (scores[0] > -torch.inf).nonzero()[:, 0].tolist(),
    }


class LookUp(transformers.PreTrainedModel, transformers.GenerationMixin):
    """A model whose logits depend on the last token and the number of tokens."""

    config_class = transformers.PretrainedConfig
    main_input_name = "input_ids"

    def __init__(self, config, table):
        super().__init__(config)
        self.table = torch.nn.Parameter(table)
        self.post_init()

    def forward(self, input_ids, **_):
        positions = torch.arange(1, input_ids.shape[1] + 1)
        return CausalLMOutput(logits=self.table[(input_ids + positions) % TABLE_VOCAB])


@torch.inference_mode()
def beam_record(model, width, sequences, length_penalty, early_stopping, max_tokens):
    out = model.generate(
        torch.tensor([TABLE_PROMPT]),
        num_beams=width,
        num_return_sequences=sequences,
        length_penalty=length_penalty,
        early_stopping={1: True, 0: False, 2: "never"}[early_stopping],
        max_new_tokens=max_tokens,
        do_sample=False,
        eos_token_id=TABLE_END_ID,
        pad_token_id=TABLE_END_ID,
        use_cache=False,
        return_dict_in_generate=True,
        output_scores=True,
    )
    hypotheses = []
    for ids, score in zip(out.sequences.tolist(), out.sequences_scores.tolist()):
        generated = ids[len(TABLE_PROMPT) :]
        if TABLE_END_ID in generated:
            generated = generated[: generated.index(TABLE_END_ID)]
        hypotheses.append({"tokens": generated, "score": float(f"{score:.6g}")})
    return {
        "width": width,
        "sequences": sequences,
        "length_penalty": length_penalty,
        "early_stopping": early_stopping,
        "max_tokens": max_tokens,
        "hypotheses": hypotheses,
    }


def lines(records):
    """One record a line, so that a change shows as a readable diff."""
    return "[\n" + ",\n".join(json.dumps(record, separators=(",", ":")) for record in records) + "\n]"


def main():
    parser = argparse.ArgumentParser(description="Makes sampling.json; see the top of this script.")
    parser.add_argument("out", type=Path, help="the folder to write into")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    torch.manual_seed(45)
    rows = [row_record(*row) for row in ROWS]
    table = rounded_logits(TABLE_VOCAB, TABLE_VOCAB)
    table[:, TABLE_END_ID] += 1  # so that sequences end at many lengths
    model = LookUp(transformers.PretrainedConfig(vocab_size=TABLE_VOCAB), table.float()).eval()
    beams = [beam_record(model, *parameters) for parameters in BEAMS]

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, transformers {transformers.__version__}"
    head = {
        "made_with": versions,
        "end_id": END_ID,
        "table_end_id": TABLE_END_ID,
        "table_prompt": TABLE_PROMPT,
    }
    text = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    parts = [f'"{key}": {lines(records)}' for key, records in (("rows", rows), ("table", [listed(row) for row in table]), ("beams", beams))]
    path = args.out / "sampling.json"
    path.write_text("{" + text + ",\n".join(parts) + "}\n", encoding="utf-8")
    print(f"{path.name}: {len(rows)} rows, {len(beams)} beam searches, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
