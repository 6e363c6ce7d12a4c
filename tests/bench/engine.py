#!/usr/bin/env python3
"""The engine beside itself: its policies and its cache on the same requests, in turns within one run.

    python3 engine.py SHARDRUN CONFIG [--rounds 5] [--json FILE] [--only WORKLOAD] [--rate RATE]
                      [--set KEY=VALUE]

Needs nothing but Python. For each workload it starts one deployment of CONFIG a variant, and then
plays the same requests to one after the other, several times over; who is not being measured
sleeps. Prints medians of the rounds, with the least and the most, and ratios to the first variant.

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
import concurrent.futures
import http.client
import json
import math
import os
import random
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass

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


class Deployment:
    """A deployment, over HTTP."""

    def __init__(self, arguments, settings):
        command = [arguments.shardrun, "serve", arguments.config]
        command += ["--http-port", "0", "--metrics-port", "0"]
        for pair in [f"{key}={value}" for key, value in settings.items()] + arguments.set:
            command += ["--set", pair]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        for line in self.process.stdout:
            if found := re.search(r"HTTP +http://(\S+)", line):
                self.address = found[1]
            if found := re.search(r"metrics +http://([^/\s]+)", line):
                self.metrics = found[1]
                return
        sys.exit(f"this did not start; it says why: {' '.join(command)}")

    def counter(self, name):
        connection = http.client.HTTPConnection(self.metrics)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return float(re.search(rf"^{name}\S* (\S+)$", text, re.MULTILINE)[1])

    def play(self, requests):
        """Sends each request when it is due; the answers, when all are there."""
        bodies = [encode(request) for request in requests]
        with concurrent.futures.ThreadPoolExecutor(len(requests)) as pool:
            began = time.perf_counter()
            futures = []
            for request, body in zip(requests, bodies):
                time.sleep(max(0.0, began + request.due - time.perf_counter()))
                futures.append(pool.submit(self.ask, body))
            chunks = [future.result() for future in futures]
        answers = [Answer(began + request.due, *events(of)) for request, of in zip(requests, chunks)]
        for number, (request, answer) in enumerate(zip(requests, answers)):
            if len(answer.tokens) != request.output:
                sys.exit(f"request {number} got {len(answer.tokens)} of {request.output} tokens")
        return answers

    def ask(self, body):
        """What comes back, and when; it is looked at later, so as to leave the engine its cores."""
        connection = http.client.HTTPConnection(self.address)
        connection.request("POST", "/v2/models/tensorrt_llm/generate_stream", body)
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"status {response.status}: {response.read().decode()}")
        chunks = []
        while chunk := response.read1(1 << 16):
            chunks.append((time.perf_counter(), chunk))
        connection.close()
        return chunks

    def stop(self):
        self.process.terminate()
        self.process.wait()


def encode(request):
    inputs = {
        "input_ids": request.prompt,
        "input_lengths": len(request.prompt),
        "request_output_len": request.output,
        "end_id": -1,
        "streaming": True,
        "exclude_input_in_output": True,
    }
    return json.dumps(inputs).encode()


def events(chunks):
    """Tokens of a stream, and the time of each."""
    tokens, times, pending = [], [], b""
    for when, chunk in chunks:
        *whole, pending = (pending + chunk).split(b"\n\n")
        for event in whole:
            data = json.loads(event.removeprefix(b"data: "))
            if "error" in data:
                sys.exit(data["error"])
            new = data["output_ids"]
            new = new if isinstance(new, list) else [new]
            tokens += new
            times += [when] * len(new)
    return tokens, times


def percentile(values, percent):
    """The nearest rank."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def figures(answers):
    """What one round showed."""
    total = max(answer.times[-1] for answer in answers) - answers[0].due
    first = [1000 * (answer.times[0] - answer.due) for answer in answers]
    last = [1000 * (answer.times[-1] - answer.due) for answer in answers]
    gaps = [
        1000 * (after - before)
        for answer in answers
        for before, after in zip(answer.times, answer.times[1:])
    ]
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
    deployment = Deployment(arguments, WORKLOADS["in_flight"].settings)
    try:
        deployment.play(mixed(0, "warm-up")[:8])
        answers = deployment.play(mixed(0, "rate"))
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
            deployments[name] = Deployment(arguments, workload.settings | settings)
            deployments[name].play(workload.requests(rate, "warm-up")[:8])
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
    answers = deployment.play(requests)
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


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shardrun")
    parser.add_argument("config")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", help="also write the results there")
    parser.add_argument("--only", choices=WORKLOADS, help="one workload rather than all")
    parser.add_argument("--rate", type=float, help="requests a second of in_flight and pressure")
    parser.add_argument("--set", action="append", default=[], help="KEY=VALUE of every deployment; goes last")
    arguments = parser.parse_args()
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
        report = {"seed": SEED, "rate": rate, "cores": os.cpu_count(), "load": load, "set": arguments.set}
        report["workloads"] = results
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


main()
