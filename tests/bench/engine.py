#!/usr/bin/env python3
"""The engine beside itself: its policies and its cache on the same requests, in turns within one run.

    python3 engine.py SHARDRUN CONFIG [--rounds 5] [--json FILE] [--only WORKLOAD] [--rate RATE]
                      [--set KEY=VALUE]

Needs nothing but Python. For each workload it starts one deployment of CONFIG a variant, all on the
same cores, and then plays the same requests to one after the other, several times over; who is not
being measured sleeps. Prints medians of the rounds, with the least and the most, and ratios to the
first variant.

in_flight      requests of mixed lengths that arrive at random, to each batching policy
shared_prefix  requests that begin with the same long text and arrive together, with and without
               reuse of cached blocks
pressure       the requests of in_flight with a cache that has no room for them

Prompts are random tokens, so that their lengths are exact; they are new in each round, since the
cache remembers, and the same for each variant. Lengths and times of arrival stay. Requests of
mixed lengths arrive somewhat faster than the engine can answer them. How fast it can is measured
first, with in-flight batching and requests that all wait from the start, unless --rate says how
many arrive in a second.

Times count from when a request was due; of tokens that come in one event, all but the first follow
at once. A percentile of one round is the nearest rank: the 99th of 48 requests is the slowest. The
run ends with an error if an answer isn't as long as it was asked to be; answers with other tokens
than the first variant's are counted.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from dataclasses import dataclass

import machine
from arguments import positive, whole_number, writable_file
from clients import Failed, checked, events, gaps_ms, percentile, times_of
from deployment import Deployment, token_ids
from process import end_on_signals

SEED = 1
VOCABULARY = range(100, 49000)  # of SmolLM2, without its special tokens

REQUESTS, PROMPT, OUTPUT = 48, (16, 256), (8, 128)
LOAD = 1.25  # requests that arrive while the engine could answer one
# Of a batch: few enough that static batches have to be several.
SLOTS = 8
TURNS, SYSTEM, TURN, REPLY, TURNS_PER_SECOND = 64, 512, (8, 32), 16, 100


@dataclass
class Request:
    """A request that is due so many seconds after the first."""

    due: float
    prompt: list
    output: int


@dataclass
class Answer:
    """When a request was due, and when each token of its answer came; on one clock."""

    due: float
    tokens: list
    times: list


def mixed(rate, round):
    """Requests of mixed lengths, so many a second."""
    shape, content = random.Random(SEED), random.Random(f"mixed {SEED} {round}")
    due, requests = 0.0, []
    for _ in range(REQUESTS):
        prompt = content.choices(VOCABULARY, k=shape.randint(*PROMPT))
        requests.append(Request(due, prompt, shape.randint(*OUTPUT)))
        due += shape.expovariate(rate) if rate else 0.0
    return requests


def shared_prefix(_rate, round):
    """The same long text each time, and after it a short one."""
    shape, content = random.Random(SEED), random.Random(f"shared {SEED} {round}")
    system = content.choices(VOCABULARY, k=SYSTEM)
    turn = lambda: content.choices(VOCABULARY, k=shape.randint(*TURN))
    return [Request(i / TURNS_PER_SECOND, system + turn(), REPLY) for i in range(TURNS)]


@dataclass
class Workload:
    """Requests, and what is measured of each variant: counters of /metrics as well."""

    title: str
    requests: object
    settings: dict
    variants: dict
    counters: dict


def policies(*names):
    return {name: {"model.batch_scheduler_policy": name} for name in names}


MIXED = f"{REQUESTS} requests, {PROMPT[0]} to {PROMPT[1]} tokens in, {OUTPUT[0]} to {OUTPUT[1]} out"
PAUSES = {"pauses": "shardrun_paused_requests_total"}
WORKLOADS = {
    "in_flight": Workload(
        f"{MIXED}, {SLOTS} at once",
        mixed,
        # Room for every sequence of the largest batch: what differs is the policy alone.
        {"model.max_batch_size": SLOTS, "kv_cache.max_tokens": 12288},
        policies("guaranteed_no_evict", "static_batch", "max_utilization"),
        PAUSES,
    ),
    "shared_prefix": Workload(
        f"{TURNS} requests, {SYSTEM} shared tokens and {TURN[0]} to {TURN[1]} others in, {REPLY} out",
        shared_prefix,
        {"model.max_batch_size": 32, "kv_cache.max_tokens": 20480},
        {
            "reuse": {"kv_cache.enable_block_reuse": "true"},
            "no reuse": {"kv_cache.enable_block_reuse": "false"},
        },
        {"prompt tokens computed": "shardrun_prompt_tokens_total"},
    ),
    "pressure": Workload(
        f"{MIXED}, {SLOTS} at once, a cache of 1024 tokens",
        mixed,
        {"model.max_batch_size": SLOTS, "kv_cache.max_tokens": 1024, "model.max_seq_len": 1024},
        policies("guaranteed_no_evict", "max_utilization"),
        PAUSES,
    ),
}


def start(arguments, settings):
    pairs = [f"{key}={value}" for key, value in settings.items()] + arguments.set
    return Deployment(arguments.shardrun, arguments.config, arguments.cores, pairs)


def cores(arguments):
    """So many as a deployment has threads; fewer if there are fewer."""
    command = [arguments.shardrun, "plan", arguments.config, "--json"]
    for pair in arguments.set:
        command += ["--set", pair]
    try:
        planned = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    except OSError as error:
        raise Failed(f"{arguments.shardrun}: {error.strerror}; `make build` builds it") from None
    if planned.returncode != 0:
        sys.exit(planned.returncode)  # it said why
    return machine.cores(sum(rank["threads"] for rank in json.loads(planned.stdout)["ranks"]))


def ask(deployment, requests):
    """Sends each request when it is due; the answers, when all are there."""
    due = [request.due for request in requests]
    streams = deployment.streams([(request.prompt, request.output) for request in requests], due)
    began = streams[0].began
    return [answer(began + request.due, stream, request) for request, stream in zip(requests, streams)]


def answer(due, stream, request):
    times = times_of(stream, lambda event: len(token_ids(event)))
    tokens = [token for _, event in events(stream) for token in token_ids(event)]
    return Answer(due, tokens, checked(times, request.output))


def figures(answers):
    """What one round showed."""
    total = max(answer.times[-1] for answer in answers) - answers[0].due
    first = [1000 * (answer.times[0] - answer.due) for answer in answers]
    last = [1000 * (answer.times[-1] - answer.due) for answer in answers]
    gaps = gaps_ms([answer.times for answer in answers])
    return {
        "output tokens/s": sum(len(answer.tokens) for answer in answers) / total,
        "total, s": total,
        "first token p50, ms": percentile(first, 50),
        "first token p99, ms": percentile(first, 99),
        "end to end p50, ms": percentile(last, 50),
        "end to end p99, ms": percentile(last, 99),
        "between tokens p50, ms": percentile(gaps, 50),
        "between tokens p99, ms": percentile(gaps, 99),
    }


def measured_rate(arguments):
    """Requests a second: LOAD times what in-flight batching ends when all of them wait."""
    deployment = start(arguments, WORKLOADS["in_flight"].settings)
    try:
        ask(deployment, mixed(0, "warm-up")[:8])
        answers = ask(deployment, mixed(0, "rate"))
    finally:
        deployment.stop()
    return LOAD * len(answers) / figures(answers)["total, s"]


def measure(workload, rate, arguments):
    """Figures of each variant, a list of one a round."""
    names = list(workload.variants)
    found = {name: {} for name in names}
    deployments = {}
    try:
        for name, settings in workload.variants.items():
            deployments[name] = start(arguments, workload.settings | settings)
            ask(deployments[name], workload.requests(rate, "warm-up")[:8])
        for round in range(arguments.rounds):
            requests = workload.requests(rate, round)
            first = round % len(names)  # nobody always goes first
            played = {
                name: play(deployments[name], requests, workload.counters)
                for name in names[first:] + names[:first]
            }
            base = played[names[0]][1]
            for name, (now, tokens) in played.items():
                now["answers unlike the first's"] = sum(map(list.__ne__, base, tokens))
                for what, value in now.items():
                    found[name].setdefault(what, []).append(value)
    finally:
        [deployment.stop() for deployment in deployments.values()]
    return found


def play(deployment, requests, counters):
    """Figures of one round, and the tokens of each answer."""
    before = {what: deployment.counter(name) for what, name in counters.items()}
    answers = ask(deployment, requests)
    counted = {what: deployment.counter(name) - before[what] for what, name in counters.items()}
    return figures(answers) | counted, [answer.tokens for answer in answers]


def summary(values):
    middle = statistics.median(values)
    return {"median": middle, "min": min(values), "max": max(values), "rounds": values}


def cell(of, base):
    digits = 0 if of["median"] >= 1000 or of["median"] == int(of["median"]) else 1
    low, middle, high = (f"{of[key]:.{digits}f}" for key in ("min", "median", "max"))
    ratio = f"{of['median'] / base['median']:.2f}x" if base["median"] else ""
    return f"{middle:>7} {f'({low} to {high})':18} {ratio:6}"


def show(title, found):
    """A row a figure, a column a variant: the median, the range, and the ratio to the first."""
    print(f"\n{title}\n" + " " * 27 + "".join(f"{name:36}" for name in found))
    first = next(iter(found.values()))
    for what, base in first.items():
        row = f"{what:27}" + "".join(f"{cell(of[what], base):36}" for of in found.values())
        print(row.rstrip())
    sys.stdout.flush()


def compare(arguments):
    load = [os.getloadavg()[0]]
    rate = arguments.rate or measured_rate(arguments)
    print(f"load before: {load[0]:.2f}; rounds: {arguments.rounds}; mixed requests a second: {rate:.2f}")
    sys.stdout.flush()
    results = {}
    for name in [arguments.only] if arguments.only else WORKLOADS:
        workload = WORKLOADS[name]
        found = {
            variant: {what: summary(values) for what, values in of.items()}
            for variant, of in measure(workload, rate, arguments).items()
        }
        show(f"{name}: {workload.title}", found)
        results[name] = {"title": workload.title, "settings": workload.settings, "variants": found}
    load.append(os.getloadavg()[0])
    print(f"\nload after: {load[1]:.2f}")
    if arguments.json:
        report = {"seed": SEED, "rate": rate, "cores": sorted(arguments.cores), "load": load}
        report |= {"set": arguments.set, "workloads": results}
        arguments.json.write_text(json.dumps(report, indent=1), encoding="utf-8")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shardrun")
    parser.add_argument("config")
    parser.add_argument("--rounds", type=whole_number, default=5)
    parser.add_argument("--json", type=writable_file, help="also write the results there")
    parser.add_argument("--only", choices=WORKLOADS, help="one workload rather than all")
    parser.add_argument("--rate", type=positive, help="requests a second of in_flight and pressure")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of every deployment; goes last")
    arguments = parser.parse_args()
    end_on_signals()
    try:
        arguments.cores = cores(arguments)
        compare(arguments)
    except Failed as reason:
        sys.exit(f"engine: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
