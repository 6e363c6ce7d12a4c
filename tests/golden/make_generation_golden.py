"""Make generation.json beside this script: what transformers generates from the real model in float32.

What is written (into the output folder):
  generation.json  "cases": inputs, named as in docs/api.md, for the prompt at the index "prompt" of prompts.json, and
                   the sequences that come back, best first. A sequence is given without its end token ("ended" says
                   whether there was one).

How to run (a developer's tool; neither the build nor the tests need it):
  pip install gguf numpy tokenizers transformers torch
  python make_generation_golden.py MODEL.gguf OUTPUT_FOLDER
The CPU is enough: it takes a few minutes and about 2 GB of memory.

Where the numbers come from:
  * Weights, tokens and arithmetic are those of make_golden.py; the tokens are transformers' generate()'s.
  * "score" of a beam is generate()'s: its log probability over its length, the end token counted in both.
  * "log_probs" are of the logits before any processor, of each token of a greedy sequence.
  * "gap" says how close it was, so that a tie can be told from an error. Greedy: how far apart the two best
    processed logits were at each step, the one that ended the sequence included. Beams: at each step, how far the log
    probability of the last continuation that went on was above that of the best one that did not; end tokens, which
    never go on, aside.
  * Words, biases and end tokens come from what is generated without them, so that each of them matters.
"""

import argparse
import hashlib
import json
import platform
from pathlib import Path

import torch
import transformers

from make_golden import encode, load_tokenizer, six

PROMPTS = [0, 1, 5]
NEW_TOKENS = 24
BEAMS = 4


class Reference:
    """The model, and how close each of its choices was."""

    def __init__(self, path):
        self.model = transformers.AutoModelForCausalLM.from_pretrained(
            path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        self.model.generation_config = transformers.GenerationConfig(use_cache=True)
        self.end_id = None
        self.gaps = []
        self.choose = self.model._get_top_k_continuations
        self.model._get_top_k_continuations = self.watch

    def watch(self, accumulated_log_probs, **kwargs):
        """Stands before the beam search's own choice of continuations."""
        open_ones = accumulated_log_probs.clone()
        open_ones.view(BEAMS, -1)[:, self.end_id] = -torch.inf
        best = torch.topk(open_ones[0], BEAMS + 1).values
        self.gaps.append(three(best[-2] - best[-1]))
        return self.choose(accumulated_log_probs=accumulated_log_probs, **kwargs)

    @torch.inference_mode()
    def generate(self, ids, end_id, **how):
        prompt = torch.tensor([ids])
        return self.model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            eos_token_id=end_id,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            **how,
        )

    def greedy(self, ids, end_id=None, **how):
        """The sequence, and the gap at each step."""
        out = self.generate(ids, end_id, **how)
        tokens = out.sequences[0, len(ids) :].tolist()
        best = [torch.topk(scores[0], 2).values for scores in out.scores]
        log_probs = [float(row[0].log_softmax(-1)[token]) for row, token in zip(out.logits, tokens)]
        ended = tokens[-1] == end_id
        kept = tokens[:-1] if ended else tokens
        sequence = {"tokens": kept, "ended": ended, "log_probs": [round(x, 5) for x in log_probs[: len(kept)]]}
        return sequence, [three(one - two) for one, two in best]

    def beams(self, ids, end_id, early_stopping):
        self.end_id, self.gaps = end_id, []
        how = {"num_beams": BEAMS, "num_return_sequences": BEAMS, "length_penalty": 1.0}
        out = self.generate(ids, end_id, early_stopping=early_stopping, **how)
        log_probs = self.model.compute_transition_scores(out.sequences, out.scores, out.beam_indices)
        sequences = []
        for row, steps, score in zip(out.sequences.tolist(), log_probs.tolist(), out.sequences_scores.tolist()):
            tokens = row[len(ids) :]
            ended = end_id in tokens
            kept = tokens[: tokens.index(end_id)] if ended else tokens
            length = len(kept) + ended
            assert abs(sum(steps[:length]) / length - score) < 1e-4, (steps, score)
            sequences.append({"tokens": kept, "ended": ended, "score": six(score)})
        return sequences, self.gaps


def three(x):
    return float(f"{float(x):.3g}")


def cases(reference, tokenizer, prompt, ids):
    def case(inputs, sequences, gap):
        return {"prompt": prompt, "inputs": inputs, "sequences": sequences, "gap": gap}

    def greedy(inputs, end_id=None, **how):
        sequence, gap = reference.greedy(ids, end_id, **how)
        return case(inputs, [sequence], gap)

    free = greedy({})
    yield free
    tokens = free["sequences"][0]["tokens"]
    yield greedy({"repetition_penalty": 1.3}, repetition_penalty=1.3)
    yield greedy({"no_repeat_ngram_size": 3}, no_repeat_ngram_size=3)

    # One token of the free text, and a pair of what comes without it.
    words = [[tokens[3]]]
    without = greedy({}, bad_words_ids=words)["sequences"][0]["tokens"]
    words = words + [without[6:8]]
    yield greedy({"bad_words": words}, bad_words_ids=words)

    end_id = tokens[4]
    inputs = {"end_id": end_id, "min_tokens": 12}
    yield greedy(inputs, end_id, min_new_tokens=12)

    # The free text's tokens are pushed down at first, and one of them up.
    bias = {token: -2.5 for token in tokens[:3]} | {tokens[5]: 3.0}
    how = {"sequence_bias": {(token,): weight for token, weight in bias.items()}}
    yield greedy({"embedding_bias": [[token, weight] for token, weight in sorted(bias.items())]}, **how)

    # Sentences and clauses, so that beams end at many lengths.
    for end, early_stopping in ((".", True), (".", False), (",", False)):
        end_id = encode(tokenizer, "a" + end)[-1]
        inputs = {"beam_width": BEAMS, "length_penalty": 1.0, "early_stopping": early_stopping, "end_id": end_id}
        yield case(inputs, *reference.beams(ids, end_id, early_stopping))


def main():
    parser = argparse.ArgumentParser(description="Makes generation.json; see the top of this script.")
    parser.add_argument("model", type=Path, help="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("out", type=Path, help="the folder to write into")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    tokenizer = load_tokenizer(args.model)
    reference = Reference(args.model)
    texts = json.loads(Path(__file__).with_name("prompts.json").read_text(encoding="utf-8"))
    records = []
    for prompt in PROMPTS:
        for record in cases(reference, tokenizer, prompt, encode(tokenizer, texts[prompt])):
            records.append(record)
            closest = min(record["gap"])
            print(f"{prompt}, {record['inputs']}: closest {closest}")
            for sequence in record["sequences"]:
                print(f"  {tokenizer.decode(sequence['tokens'])!r}")

    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    head = {
        "model_sha256": hashlib.sha256(args.model.read_bytes()).hexdigest(),
        "made_with": ", ".join(f"{name} {version}" for name, version in versions.items()) + "; float32 on the CPU",
        "new_tokens": NEW_TOKENS,
    }
    start = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    lines = ",\n".join(json.dumps(record, separators=(",", ":")) for record in records)
    path = args.out / "generation.json"
    path.write_text("{" + start + '"cases": [\n' + lines + "\n]}\n", encoding="utf-8")
    print(f"{path.name}: {len(records)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
