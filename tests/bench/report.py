#!/usr/bin/env python3
"""Tables of what `compare.py` measured.

    python3 report.py RESULTS                  # on the terminal
    python3 report.py RESULTS --docs PAGE      # into a page, between its two marks, and a picture beside it

Cells are medians of the rounds, with the least and the most in brackets. Ratios and shares are taken
within each round, between measurements a few seconds apart, since machines drift; theirs are medians,
too.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

import picture

SHARDRUN, TENSOR_PARALLEL = "shardrun", "shardrun tp=2"
LLAMA_CPP, LLAMA_CPP_Q4_0 = "llama.cpp", "llama.cpp Q4_0"
OPENVINO, VLLM = "OpenVINO GenAI", "vLLM"
# Without these there is nothing to compare.
OURS = {SHARDRUN: "shardrun, 1 rank of 2 threads", TENSOR_PARALLEL: "shardrun, 2 ranks of 1 thread"}

MEASURES = {
    "prefill": "prefill, 512 tokens",
    "decode 1": "decode, batch 1",
    "decode 8": "decode, batch 8",
    "decode 32": "decode, batch 32",
}
# Tokens of a pass, and rows of the head.
ROWS = {"prefill": (512, 1), "decode 1": (1, 1), "decode 8": (8, 8), "decode 32": (32, 32)}

LIMITS = {
    "read memory": "memory read, no cache holds it, GB/s",
    "read file": "memory read, as much as the weights, GB/s",
    "int8": "int8 in registers, GOP/s",
    "bf16": "bf16 in registers, GFLOP/s",
    "f32": "f32 in registers, GFLOP/s",
}
PARTS = ("engine", "http", "startup")
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


def title(results, name):
    """A subject's name with the type of its weights."""
    found = re.search(r"[.-]((?:I?Q|B?F)\d+\w*)\.gguf$", results["model"]["file"], re.IGNORECASE)
    return f"{name} {found[1]}" if found and name in (LLAMA_CPP, OPENVINO) else name


def subjects(results, part):
    """Who was measured in a part, in the order of this page."""
    found = {name for values in results[part].values() for name in values}
    order = [SHARDRUN, LLAMA_CPP, LLAMA_CPP_Q4_0, OPENVINO, VLLM]
    return [name for name in order if name in found]


def limit(results, round, name, measure):
    """Tokens a second that the machine gave at most in a round, and what it is that limits.

    Every pass reads all weights once; a token takes two operations for each weight of a matrix."""
    model, (rows, head_rows) = results["model"], ROWS[measure]
    weight_bytes = results["other_weight_bytes"].get(name, model["bytes"])
    limits = [("memory", 1e9 * results["limits"]["read memory"][round] * rows / weight_bytes)]
    if int8 := instruction_set(results, "int8"):
        operations = 2 * (model["layer_parameters"] * rows + model["head_parameters"] * head_rows)
        limits.append(("int8", 1e9 * results["limits"][int8][round] * rows / operations))
    return min(limits, key=lambda limit: limit[1])


def instruction_set(results, what):
    """The first limit of a kind, which is that of the widest instructions in use."""
    beyond = {"avx2": ("avx512", "avxvnni"), "scalar": ("avx",)}.get(results["isa"], ())
    names = [name for name in results["limits"] if name.startswith(f"{what} ")]
    return next((name for name in names if not name.split()[1].startswith(beyond)), None)


def cell(values, digits=None, unit=""):
    if not values:
        return "-"
    middle = statistics.median(values)
    if digits is None:
        digits = 0 if middle >= 100 else 1
    low, middle, high = (f"{value:.{digits}f}" for value in (min(values), middle, max(values)))
    return f"{middle}{unit} ({low} to {high})" if len(values) > 1 else f"{middle}{unit}"


def engine_tables(results):
    names, engine = subjects(results, "engine"), results["engine"]
    peers = [name for name in names if name not in OURS]
    rounds = range(results["rounds"])

    def rates(measure):
        limits = [limit(results, round, SHARDRUN, measure) for round in rounds]
        cells = [cell(engine[measure].get(name)) for name in names]
        return [MEASURES[measure], *cells, f"{cell([rate for _, rate in limits])}, {limits[0][0]}"]

    def ratios(measure):
        ours = engine[measure][SHARDRUN]
        cells = [cell(quotients(ours, engine[measure].get(name)), 2, "x") for name in peers]
        return [MEASURES[measure], *cells]

    def shares(measure):
        row = [MEASURES[measure]]
        for name in names:
            limits = [limit(results, round, name, measure)[1] for round in rounds]
            shares = quotients(engine[measure].get(name), limits)
            row.append(cell([100 * share for share in shares], 0, " %"))
        return row

    titles = [title(results, name) for name in names]
    yield "Tokens per second", ["", *titles, "machine's limit"], map(rates, MEASURES)
    if peers:
        headers = ["", *(title(results, name) for name in peers)]
        yield "shardrun's, as a multiple of theirs", headers, map(ratios, MEASURES)
    yield "Share of the machine's limit", ["", *titles], map(shares, MEASURES)
    yield (
        "Tensor parallelism: two ranks of one thread beside one rank of two",
        ["", "1 x 2 threads, tokens/s", "2 x 1 thread, tokens/s", "ratio"],
        [
            [
                MEASURES[measure],
                cell(engine[measure][SHARDRUN]),
                cell(engine[measure][TENSOR_PARALLEL]),
                cell(quotients(engine[measure][TENSOR_PARALLEL], engine[measure][SHARDRUN]), 2, "x"),
            ]
            for measure in MEASURES
        ],
    )


def quotients(over, under):
    return [a / b for a, b in zip(over or [], under or [])]


def http_table(results):
    names, http = subjects(results, "http"), results["http"]
    titles = [title(results, name).replace("llama.cpp", "llama-server") for name in names]
    rows = [[measure, *(cell(http[measure].get(name)) for name in names)] for measure in http]
    ours = http["output tokens/s"][SHARDRUN]
    ratios = [quotients(ours, http["output tokens/s"].get(name)) for name in names]
    rows.insert(1, ["shardrun's, as a multiple", *(cell(values, 2, "x") for values in ratios)])
    return "HTTP, 32 clients, 128 tokens in, 64 out", ["", *titles], rows


def startup_table(results):
    names, startup = subjects(results, "startup"), results["startup"]
    titles = [title(results, name).replace("llama.cpp", "llama-server") for name in names]
    rows = [[what, *(cell(startup[what].get(name), 2) for name in names)] for what in startup]
    return "From the start of the program to the first token", ["", *titles], rows


def limits_table(results):
    rows = []
    for kind, words in LIMITS.items():
        name = kind if kind in results["limits"] else instruction_set(results, kind)
        if name:
            used = name.removeprefix(kind).strip()
            rows.append([words, used or "-", cell(results["limits"][name])])
    return "What the machine gives at most", ["", "instructions", "measured"], rows


def tables(results):
    """Of what was measured; `facts` says what was not."""
    if results["engine"]:
        yield from engine_tables(results)
    if results["http"]:
        yield http_table(results)
    if results["startup"]:
        yield startup_table(results)
    if results["limits"]:
        yield limits_table(results)
    if results["quality"]:
        yield "Quality: perplexity by mode", results["quality"][0], results["quality"][1:]


def facts(results):
    """What was measured on, and who could not be."""
    machine = results["machine"]
    instructions = ", ".join(machine["instructions"]) or "none beyond the base"
    yield (
        f"{results['date']}, commit {results['commit']}: {machine['processor']} with {instructions}; "
        f"cores {', '.join(map(str, results['cores']))} of {machine['cores']}"
        f"{', threads of one core' if results['share_a_core'] else ''}; "
        f"{machine['memory_gb']} GB of memory; {machine['system']}."
    )
    versions = [f"{title(results, name)} ({version})" for name, version in results["versions"].items()]
    held = f" Held to {results['isa']}." if results["isa"] else ""
    yield (
        f"Model {results['model']['file']}; peers: {', '.join(versions) or 'none'}. "
        f"{results['rounds']} rounds in {results['minutes']} minutes; the load before them was "
        f"{results['load_before']:.1f}.{held}"
    )
    reasons = {}
    for part, missing in results["left_out"].items():
        for name, reason in missing.items():
            reasons.setdefault((name, reason), []).append(part)
    for (name, reason), parts in reasons.items():
        yield f"Left out of {', '.join(parts)}: {name}: {reason}."
    missing = {part: "the comparison did not get there" for part in PARTS if not results[part]}
    for part, reason in (missing | results["failed"]).items():
        yield f"Not measured: {part}: {reason}."


def terminal(results):
    return "\n".join([*facts(results), *(f"\n{aligned(*table)}" for table in tables(results))])


def aligned(heading, headers, rows):
    lines = [headers, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    padded = ("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)
    return "\n".join([heading, *padded])


def markdown(heading, headers, rows):
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join([f"### {heading}", "", *(f"| {' | '.join(line)} |" for line in lines)])


def write_page(results, page):
    """Replaces what is between the marks, and draws the picture that the page shows."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        sys.exit(f"{page} has no marks {BEGIN} and {END}")
    image = f"![Tokens per second by measure, with the machine's limit]({page.stem}.svg)"
    parts = [*facts(results), image, *(markdown(*table) for table in tables(results))]
    page.write_text(before + begin + "\n" + "\n\n".join(parts) + "\n" + end + after, encoding="utf-8")
    drawing = picture.draw(panels(results))
    page.with_suffix(".svg").write_text(drawing, encoding="utf-8")


def panels(results):
    """For the picture: medians of who was measured, and the limit where there is one."""
    for measure, words in MEASURES.items() if results["engine"] else ():
        values = results["engine"][measure]
        names = [name for name in subjects(results, "engine") if name in values]
        bars = [(title(results, name), statistics.median(values[name])) for name in names]
        limits = [limit(results, round, SHARDRUN, measure)[1] for round in range(results["rounds"])]
        yield f"{words}, tokens/s", bars, statistics.median(limits)
    if not results["http"]:
        return
    values = results["http"]["output tokens/s"]
    names = [name for name in subjects(results, "http") if name in values]
    bars = [
        (title(results, name).replace("llama.cpp", "llama-server"), statistics.median(values[name]))
        for name in names
    ]
    yield "HTTP, 32 clients, output tokens/s", bars, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("results", type=Path)
    parser.add_argument("--docs", type=Path, metavar="PAGE")
    arguments = parser.parse_args()
    try:
        results = json.loads(arguments.results.read_text(encoding="utf-8"))
    except OSError as error:
        sys.exit(f"{arguments.results}: {error.strerror}; `make bench` writes it")
    if arguments.docs:
        write_page(results, arguments.docs)
    else:
        print(terminal(results))


if __name__ == "__main__":
    main()
