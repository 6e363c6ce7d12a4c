#!/usr/bin/env python3
"""shardrun beside llama.cpp: one model, one machine, in turns within one run.

    python compare.py SHARDRUN CONFIG [--rounds 5]

Needs the Python package llama-cpp-python, built for this machine (`make bench` sees to it). Starts
the deployment of CONFIG with one rank of two threads and with two ranks of one, loads the same file
into llama.cpp with two threads, and then measures them one after the other, several times over; who
is not being measured sleeps. Prints medians and ranges of tokens per second, and ratios.

decode    128 greedy tokens one after another, after a prompt of 16 tokens; the prompt is not timed.
          shardrun's are timed over HTTP, from the first streamed token to the last.
prefill   a prompt of 512 tokens to its first token.
8 at once generated tokens per second of 8 requests that arrive together, shardrun alone.
"""

import argparse
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time

import llama_cpp
import numpy

TEXT = (
    "The history of bridge building goes back to the earliest river crossings, when people laid "
    "fallen trees across streams. "
)
DECODE_PROMPT, DECODE, PREFILL = 16, 128, 512


class Peer:
    """llama.cpp in this process."""

    name = "llama.cpp, 2 threads"

    def __init__(self, model):
        self.llama = llama_cpp.Llama(
            model, n_ctx=1024, n_batch=512, n_ubatch=512, n_threads=2, n_threads_batch=2, verbose=False
        )
        self.context = self.llama._ctx.ctx
        self.ids = self.llama.tokenize((TEXT * 40).encode(), add_bos=False)

    def prompt(self, tokens):
        """A text of so many tokens, for those who take text."""
        return self.llama.detokenize(self.ids[:tokens]).decode()

    def run(self, tokens):
        array = (llama_cpp.llama_token * len(tokens))(*tokens)
        batch = llama_cpp.llama_batch_get_one(array, len(tokens))
        if llama_cpp.llama_decode(self.context, batch) != 0:
            sys.exit("llama_decode failed")
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(numpy.ctypeslib.as_array(logits, (self.llama.n_vocab(),)).argmax())

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self):
        self.clear()
        token = self.run(self.ids[:DECODE_PROMPT])
        began = time.perf_counter()
        for _ in range(DECODE):
            token = self.run([token])
        return DECODE / (time.perf_counter() - began)

    def prefill(self):
        self.clear()
        began = time.perf_counter()
        self.run(self.ids[:PREFILL])
        return PREFILL / (time.perf_counter() - began)


class Deployment:
    """A deployment of ours, over HTTP."""

    def __init__(self, shardrun, config, tp_size, threads, peer):
        self.name = f"shardrun, {tp_size} x {threads} threads"
        self.peer = peer
        command = [shardrun, "serve", config, "--http-port", "0", "--metrics-port", "0"]
        command += ["--tp-size", str(tp_size), "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            if found := re.search(r"HTTP +http://(\S+)", line):
                self.address = found[1]
                return
        sys.exit(f"{self.name} did not start")

    def stream(self, prompt, max_tokens):
        """Times of the request and of each streamed token."""
        body = {"text_input": prompt, "max_tokens": max_tokens, "end_id": -1, "stream": True}
        connection = http.client.HTTPConnection(self.address)
        began = time.perf_counter()
        connection.request("POST", "/v2/models/ensemble/generate_stream", json.dumps(body))
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"{self.name}: {response.read()}")
        times = []
        while line := response.readline():
            if line.startswith(b"data: "):
                times.append(time.perf_counter())
        connection.close()
        return began, times

    def decode(self):
        _, times = self.stream(self.peer.prompt(DECODE_PROMPT), DECODE + 1)
        return (len(times) - 1) / (times[-1] - times[0])

    def prefill(self):
        began, times = self.stream(self.peer.prompt(PREFILL), 1)
        return PREFILL / (times[0] - began)

    def eight(self):
        counts = []
        prompt = self.peer.prompt(DECODE_PROMPT)
        request = lambda: counts.append(len(self.stream(prompt, DECODE)[1]))
        threads = [threading.Thread(target=request) for _ in range(8)]
        began = time.perf_counter()
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        return sum(counts) / (time.perf_counter() - began)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shardrun")
    parser.add_argument("config")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    fetch = [arguments.shardrun, "fetch", arguments.config]
    model = subprocess.run(fetch, check=True, capture_output=True, text=True).stdout.strip()
    peer = Peer(model)
    ours = [Deployment(arguments.shardrun, arguments.config, *shape, peer) for shape in ((1, 2), (2, 1))]
    print(f"load before: {os.getloadavg()[0]:.2f}; llama-cpp-python {llama_cpp.__version__}")
    measures = ["decode", "prefill", "eight"]
    rates = {}
    try:
        for round in range(arguments.rounds + 1):
            for measure in measures:
                for subject in [peer, *ours]:
                    if hasattr(subject, measure):
                        rate = getattr(subject, measure)()
                        if round > 0:
                            rates.setdefault((measure, subject.name), []).append(rate)
    finally:
        [deployment.stop() for deployment in ours]
    for measure in measures:
        base = rates.get((measure, peer.name))
        for subject in [peer, *ours]:
            if found := rates.get((measure, subject.name)):
                middle = statistics.median(found)
                ratio = f"  {middle / statistics.median(base):5.2f}x" if base else ""
                spread = f"{min(found):7.1f} to {max(found):7.1f}"
                title = "8 at once" if measure == "eight" else measure
                print(f"{title:10} {subject.name:26} {middle:8.1f} tokens/s  ({spread}){ratio}")
    print(f"load after: {os.getloadavg()[0]:.2f}")


main()
