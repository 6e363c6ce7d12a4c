#!/usr/bin/env python3
"""shardrun beside what else serves a model on CPUs: one machine, the same two cores, in turns.

    python3 compare.py SHARDRUN CONFIG [--quick] [--rounds N] [--json FILE] [--isa ISA]
                       [--quality PERPLEXITY TEXT...]

Needs nothing but Python, the peers that `install.py` installs, and cargo for the machine's limits. A
peer that isn't there is left out, and said to be; so is a part that can't be measured, and then the
program ends with 1. Prints the tables of `report.py`, and writes what it measured to FILE after each
part, from which `report.py` makes tables and a picture again.

engine   prefill of 512 tokens, and decoding of 1, 8 and 32 sequences: each measure of each subject
         once a round; who is not measured sleeps. Prompts are random tokens, new in each round and
         the same for all. Peers are called in process and only their passes are timed; shardrun is
         timed over HTTP, from the request to its first token, or from token to token.
http     32 clients, each with two prompts of 128 tokens, one after the other, and 64 tokens to get for
         each; to each server in turn.
startup  from the start of the program to the first token of an answer; of llama-server without its
         warming up, which would be part of it.
limits   what the machine's memory and arithmetic give, once a round.
quality  what the program PERPLEXITY prints of the model and the files TEXT.

With --isa avx2 or scalar shardrun is held to an instruction set, and llama.cpp's library, which
`install.py --isa` has built for the same one, is its only peer: over HTTP and at the start there is none.
"""

import argparse
import functools
import json
import os
import random
import re
import subprocess
import sys
import time
from datetime import datetime, timezone
from pathlib import Path

import machine
import peers
import report
import subjects
import weights
from arguments import whole_number, writable_file
from clients import Failed, gaps_ms, percentile
from deployment import Deployment
from process import end_on_signals

SEED = 1
THREADS = 2
# Tokens that vocabularies of 32,000 and more have, special ones not among them.
VOCABULARY = range(1000, 30000)
PREFILL, PROMPT = 512, 16
BATCHES = {1: 64, 8: 32, 32: 32}  # sequences, and the tokens of each that are timed
CLIENTS, WORDS_IN, TOKENS_OUT = 32, 128, 64
# Common vocabularies have each of these as one token, after a space.
WORDS = (
    "time people year way day man thing woman life child world school state family student group "
    "country problem hand part place case week company system program question work government "
    "number night point home water room mother area money story fact month lot right study book eye "
    "job word business issue side kind head house service friend father power hour game line end "
    "member law car city community name president team minute idea body information back parent face "
    "others level office door health person art war history party result change morning reason "
    "research girl guy moment air teacher force education"
).split()


class Run:
    """The subjects, and what was found of them so far."""

    def __init__(self, arguments):
        self.arguments, self.rounds = arguments, arguments.rounds or (3 if arguments.quick else 7)
        self.began, self.load_before = time.monotonic(), os.getloadavg()[0]
        self.cores = machine.cores(THREADS)
        if len(self.cores) < THREADS:
            raise Failed(f"the comparison needs {THREADS} CPUs; this process may use {len(self.cores)}")
        self.model, self.build = model(arguments), peers.Build(arguments.isa)
        self.weights = weights.read(self.model)
        self.found = {"engine": {}, "http": {}, "startup": {}, "quality": []}
        self.left_out, self.failed = {part: {} for part in self.found}, {}
        self.limits, self.versions, self.commit = {}, {}, machine.commit()

    def ours(self, tp_size):
        settings = [f"model.tp_size={tp_size}", f"model.threads={THREADS // tp_size}"]
        if self.arguments.isa:
            settings.append(f"model.isa={self.arguments.isa}")
        return Deployment(self.arguments.shardrun, self.arguments.config, self.cores, settings)

    @functools.cached_property
    def q4_0(self):
        return subjects.q4_0(self.build, self.model)

    def attempt(self, part, name, what):
        """What a subject gives, or None if a peer fails, which is then left out of the part."""
        try:
            return what()
        except Failed as reason:
            if name in report.OURS:
                raise Failed(f"{report.OURS[name]}: {reason}") from None
            print(f"left out: {name}: {reason}", file=sys.stderr, flush=True)
            self.left_out[part][name] = str(reason)
            for values in self.found[part].values():
                values.pop(name, None)
            return None

    def note(self, part, measure, name, value):
        self.found[part].setdefault(measure, {}).setdefault(name, []).append(value)

    def measure(self, part, what):
        """A part, whole or not at all; what was measured before is kept."""
        try:
            what(self)
        except Failed as reason:
            print(f"not measured: {part}: {reason}", file=sys.stderr, flush=True)
            self.failed[part] = str(reason)
            self.found[part] = None
        if self.arguments.json:
            text = json.dumps(self.results(), indent=1)
            self.arguments.json.write_text(text, encoding="utf-8")

    def results(self):
        return {
            "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
            "commit": self.commit,
            "minutes": round((time.monotonic() - self.began) / 60, 1),
            "rounds": self.rounds,
            "load_before": self.load_before,
            "machine": machine.description(),
            "cores": sorted(self.cores),
            "share_a_core": machine.share_a_core(self.cores),
            "isa": self.arguments.isa,
            "model": {"file": Path(self.model).name} | vars(self.weights),
            "versions": self.versions,
            "other_weight_bytes": self.other_weight_bytes(),
            "left_out": self.left_out,
            "failed": self.failed,
            "limits": self.limits,
            **self.found,
        }

    def other_weight_bytes(self):
        """Bytes of those who have the model in another type."""
        name = report.LLAMA_CPP_Q4_0
        return {name: weights.read(self.q4_0).bytes} if name in self.versions else {}


class Started:
    """The subjects of a part that start, for as long as a block lasts."""

    def __init__(self, run, part, makers):
        self.run, self.part, self.makers, self.running = run, part, makers, {}

    def __enter__(self):
        try:
            for name, make in self.makers.items():
                if subject := self.run.attempt(self.part, name, make):
                    self.running[name] = subject
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for subject in self.running.values():
            subject.stop()

    def versions(self):
        return {name: peer.version for name, peer in self.running.items() if name not in report.OURS}

    def ask(self, round, what):
        """What each subject gives; nobody always goes first."""
        names = list(self.running)
        first = round % len(names) if names else 0
        for name in names[first:] + names[:first]:
            value = self.run.attempt(self.part, name, lambda: what(self.running[name]))
            if value is None:
                self.running.pop(name).stop()
            else:
                yield name, value


def engine(run):
    rounds, sequences = run.rounds, max(BATCHES)
    makers = {
        report.SHARDRUN: lambda: run.ours(1),
        report.TENSOR_PARALLEL: lambda: run.ours(2),
        report.LLAMA_CPP: lambda: subjects.llama_cpp(run.build, run.model, run.cores, sequences),
        report.LLAMA_CPP_Q4_0: lambda: subjects.llama_cpp(run.build, run.q4_0, run.cores, sequences),
        report.OPENVINO: lambda: subjects.openvino(run.arguments.isa, run.model, run.cores, sequences),
    }
    limits = machine.Limits(run.cores, run.weights.bytes)
    with Started(run, "engine", makers) as started:
        run.versions |= started.versions()
        for round in range(rounds + 1):  # the first of them warms up
            for limit, rate in limits.measure().items():
                if round > 0:
                    run.limits.setdefault(limit, []).append(rate)
            for measure, what in engine_measures(round).items():
                for name, rate in started.ask(round, what):
                    if round > 0:
                        run.note("engine", measure, name, rate)
            progress("engine", round, rounds)


def engine_measures(round):
    """What is asked of each subject; less of it while it warms up."""
    content = random.Random(f"{SEED} {round}")
    long = content.choices(VOCABULARY, k=PREFILL)
    measures = {"prefill": lambda subject: subject.prefill(long)}
    for batch, tokens in BATCHES.items():
        prompts = [content.choices(VOCABULARY, k=PROMPT) for _ in range(batch)]
        tokens = tokens if round > 0 else 8
        decode = lambda subject, prompts=prompts, tokens=tokens: subject.decode(prompts, tokens)
        measures[f"decode {batch}"] = decode
    return measures


def http(run):
    rounds = min(run.rounds, 1 if run.arguments.quick else 3)
    makers = {
        report.SHARDRUN: lambda: run.ours(1),
        report.LLAMA_CPP: lambda: subjects.llama_server(run.build, run.model, run.cores, CLIENTS),
        report.LLAMA_CPP_Q4_0: lambda: subjects.llama_server(run.build, run.q4_0, run.cores, CLIENTS),
        report.VLLM: lambda: subjects.vllm(run.arguments.isa, run.cores, CLIENTS),
    }
    if run.arguments.quick:
        del makers[report.LLAMA_CPP]
    with Started(run, "http", makers) as started:
        run.versions |= started.versions()
        list(started.ask(0, lambda server: server.answers(texts("warm-up", 2, PROMPT), 8, 2)))
        for round in range(1, rounds + 1):
            ask = lambda server: load(server, texts(round, 2 * CLIENTS))
            for name, figures in started.ask(round, ask):
                for measure, value in figures.items():
                    run.note("http", measure, name, value)
            progress("http", round, rounds)


def texts(seed, count, words=WORDS_IN):
    content = random.Random(f"{SEED} {seed}")
    return ["".join(f" {word}" for word in content.choices(WORDS, k=words)) for _ in range(count)]


def load(server, prompts):
    answers = server.answers(prompts, TOKENS_OUT, CLIENTS)
    total = max(times[-1] for _, times in answers) - min(began for began, _ in answers)
    first = [1000 * (times[0] - began) for began, times in answers]
    gaps = gaps_ms([times for _, times in answers])
    return {
        "output tokens/s": len(answers) * TOKENS_OUT / total,
        "first token p50, ms": percentile(first, 50),
        "between tokens p50, ms": percentile(gaps, 50),
        "between tokens p99, ms": percentile(gaps, 99),
        "p99 / p50": percentile(gaps, 99) / percentile(gaps, 50),
    }


def startup(run):
    rounds, cold = min(run.rounds, 3), ["--no-warmup"]
    makers = {
        report.SHARDRUN: lambda: run.ours(1),
        report.LLAMA_CPP: lambda: subjects.llama_server(run.build, run.model, run.cores, CLIENTS, cold),
    }
    answer = lambda server: server.answers(texts("startup", 1, PROMPT), 4, 1)
    for round in range(rounds):
        names = [name for name in makers if name not in run.left_out["startup"]]
        for name in names if round % 2 == 0 else names[::-1]:
            began, clock = time.perf_counter(), time.time()
            with Started(run, "startup", {name: makers[name]}) as started:
                for _, [(_, times)] in started.ask(0, answer):
                    total = times[0] - began
                    run.note("startup", "start to first token, s", name, total)
                    if name in report.OURS:
                        in_worker = clock + total - started.running[name].logged()
                        run.note("startup", "of that, the rank alone, s", name, in_worker)
    progress("startup", rounds, rounds)


def quality(run):
    """The last table that the program prints: columns two spaces apart, the same number in each row."""
    program, *text = run.arguments.quality
    try:
        done = subprocess.run([program, run.model, *text], capture_output=True, text=True)
    except OSError as error:
        raise Failed(f"{program}: {error.strerror}") from None
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]
    if done.returncode != 0 or not rows:
        raise Failed(f"{program}: {done.stderr.strip()[-300:] or f'it ended with {done.returncode}'}")
    run.found["quality"] = [row for row in rows if len(row) == len(rows[-1])]
    progress("quality", 1, 1)


def model(arguments):
    try:
        command = [arguments.shardrun, "fetch", arguments.config]
        fetched = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise Failed(f"{arguments.shardrun}: {error.strerror}; `make build` builds it") from None
    if fetched.returncode != 0:
        sys.exit(fetched.returncode)  # it said why
    return fetched.stdout.strip()


def progress(part, round, rounds):
    print(f"{part}: {f'round {round} of {rounds}' if round else 'warm'}", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shardrun")
    parser.add_argument("config")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and the fastest peer over HTTP")
    parser.add_argument("--rounds", type=whole_number, help="rounds of the engine's measures")
    parser.add_argument("--json", type=writable_file, metavar="FILE", help="also write what was measured there")
    parser.add_argument("--isa", choices=["avx2", "scalar"], help="instructions to do with")
    parser.add_argument("--quality", nargs="+", metavar=("PERPLEXITY", "TEXT"))
    arguments = parser.parse_args()
    end_on_signals()
    try:
        run = Run(arguments)
        for part in (engine, http, startup, *([quality] if arguments.quality else [])):
            run.measure(part.__name__, part)
    except Failed as reason:
        sys.exit(f"compare: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(report.terminal(run.results()))
    sys.exit(1 if run.failed else 0)


if __name__ == "__main__":
    main()
