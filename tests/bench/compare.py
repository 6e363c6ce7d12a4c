#!/usr/bin/env python3
"""shardrun beside what else serves a model on CPUs: one machine, the same two cores, in turns.

    python3 compare.py SHARDRUN CONFIG [--quick] [--rounds N] [--json FILE] [--isa ISA]
                       [--quality PERPLEXITY TEXT...]

Needs nothing but Python, the peers that `install.py` installs, and cargo for the machine's limits. A
peer that isn't there is left out, and said to be. Prints the tables of `report.py`, and writes what
it measured to FILE, from which `report.py` makes tables and a picture again.

engine   prefill of 512 tokens, and decoding of 1, 8 and 32 sequences: each measure of each subject
         once a round; who is not measured sleeps. Prompts are random tokens, new in each round and
         the same for all. Peers are called in process and only their passes are timed; shardrun is
         timed over HTTP, from the request to its first token, or from token to token.
http     32 clients, each with two prompts of 128 tokens, one after the other, and 64 tokens to get for
         each; to each server in turn.
startup  from the start of the program to the first token of an answer.
limits   what the machine's memory and arithmetic give, once a round.
quality  what the program PERPLEXITY prints of the model and the files TEXT.

With --isa avx2 or scalar shardrun is held to an instruction set, and llama.cpp's library, which
`install.py --isa` has built for the same one, is its only peer: over HTTP and at the start there is none.
"""

import argparse
import functools
import json
import math
import os
import random
import re
import signal
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
from clients import Failed
from deployment import Deployment

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
        self.arguments = arguments
        self.cores = machine.cores(THREADS)
        if len(self.cores) < THREADS:
            raise Failed(f"the comparison needs {THREADS} CPUs; this process may use {len(self.cores)}")
        self.model, self.build = model(arguments), peers.Build(arguments.isa)
        self.weights = weights.read(self.model)
        self.found = {part: {} for part in ("engine", "http", "startup")}
        self.left_out = {part: {} for part in self.found}
        self.limits, self.versions, self.commit = {}, {}, machine.commit()

    def ours(self, tp_size):
        settings = [f"model.isa={self.arguments.isa}"] if self.arguments.isa else []
        shardrun, config = self.arguments.shardrun, self.arguments.config
        return Deployment(shardrun, config, tp_size, self.cores, settings)

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


def engine(run, rounds):
    sequences = max(BATCHES)
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


def http(run, rounds, slow):
    makers = {
        report.SHARDRUN: lambda: run.ours(1),
        report.LLAMA_CPP: lambda: subjects.llama_server(run.build, run.model, run.cores, CLIENTS),
        report.LLAMA_CPP_Q4_0: lambda: subjects.llama_server(run.build, run.q4_0, run.cores, CLIENTS),
        report.VLLM: lambda: subjects.vllm(run.arguments.isa, run.cores, CLIENTS),
    }
    if not slow:
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
    pairs = [pair for _, times in answers for pair in zip(times, times[1:])]
    gaps = [1000 * (after - before) for before, after in pairs]
    return {
        "output tokens/s": len(answers) * TOKENS_OUT / total,
        "first token p50, ms": percentile(first, 50),
        "between tokens p50, ms": percentile(gaps, 50),
        "between tokens p99, ms": percentile(gaps, 99),
        "p99 / p50": percentile(gaps, 99) / percentile(gaps, 50),
    }


def percentile(values, percent):
    """The nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def startup(run, rounds):
    makers = {
        report.SHARDRUN: lambda: run.ours(1),
        report.LLAMA_CPP: lambda: subjects.llama_server(run.build, run.model, run.cores, CLIENTS),
    }
    answer = lambda server: server.answers(texts("startup", 1, PROMPT), 4, 1)
    for _ in range(rounds):
        for name in [name for name in makers if name not in run.left_out["startup"]]:
            began, clock = time.perf_counter(), time.time()
            with Started(run, "startup", {name: makers[name]}) as started:
                for _, [(_, times)] in started.ask(0, answer):
                    total = times[0] - began
                    run.note("startup", "start to first token, s", name, total)
                    if name in report.OURS:
                        after_mpi = clock + total - started.running[name].logged()
                        run.note("startup", "of that, after MPI_Init, s", name, after_mpi)
    progress("startup", rounds, rounds)


def quality(run):
    """The last table that the program prints: columns two spaces apart, the same number in each row."""
    if not run.arguments.quality:
        return None
    progress("quality", 1, 1)
    program, *text = run.arguments.quality
    try:
        done = subprocess.run([program, run.model, *text], capture_output=True, text=True)
        reason = done.stderr.strip()[-300:] if done.returncode != 0 else None
    except OSError as error:
        reason = error.strerror
    if reason:  # the rest was measured all the same
        print(f"left out: quality: {program}: {reason}", file=sys.stderr, flush=True)
        return None
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(rows[-1])]


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


def measure(arguments):
    began, load_before = time.monotonic(), os.getloadavg()[0]
    run = Run(arguments)
    rounds, http_rounds = (3, 1) if arguments.quick else (7, 3)
    rounds = arguments.rounds or rounds
    engine(run, rounds)
    http(run, min(rounds, http_rounds), slow=not arguments.quick)
    startup(run, min(rounds, 3))
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": run.commit,
        "minutes": round((time.monotonic() - began) / 60, 1),
        "rounds": rounds,
        "load_before": load_before,
        "machine": machine.description(),
        "cores": sorted(run.cores),
        "share_a_core": machine.share_a_core(run.cores),
        "isa": arguments.isa,
        "model": {"file": Path(run.model).name} | vars(run.weights),
        "versions": run.versions,
        "other_weight_bytes": other_weight_bytes(run),
        "left_out": run.left_out,
        "limits": run.limits,
        **run.found,
        "quality": quality(run),
    }


def other_weight_bytes(run):
    """Bytes of those who have the model in another type."""
    name = report.LLAMA_CPP_Q4_0
    return {name: weights.read(run.q4_0).bytes} if name in run.versions else {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shardrun")
    parser.add_argument("config")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, and the fastest peer over HTTP")
    parser.add_argument("--rounds", type=int, help="rounds of the engine's measures")
    parser.add_argument("--json", metavar="FILE", help="also write what was measured there")
    parser.add_argument("--isa", choices=["avx2", "scalar"], help="instructions to do with")
    parser.add_argument("--quality", nargs="+", metavar=("PERPLEXITY", "TEXT"))
    arguments = parser.parse_args()
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds is at least 1")
    # What was started is stopped then, too.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        results = measure(arguments)
    except Failed as reason:
        sys.exit(f"compare: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(report.terminal(results))


if __name__ == "__main__":
    main()
