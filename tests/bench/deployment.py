"""A deployment of ours: a subject of the engine's measures and a server, both over HTTP."""

import re
import statistics
import subprocess
from datetime import datetime
from pathlib import Path

import clients
from clients import Failed, checked, times_of
from process import START_S, Process, stopped_on_failure


class Deployment:
    def __init__(self, shardrun, config, tp_size, cores, settings=()):
        command = [shardrun, "serve", config, "--http-port", "0", "--metrics-port", "0"]
        command += ["--tp-size", tp_size, "--threads", len(cores) // tp_size]
        for setting in settings:
            command += ["--set", setting]
        self.address = None
        self.process = Process(command, cores, stdout=subprocess.PIPE)
        with stopped_on_failure(self.process):
            while not self.address:
                if found := re.search(r"HTTP +http://(\S+)", self.process.line(START_S)):
                    self.address = found[1]

    def prefill(self, prompt):
        [(began, times)] = self.tokens([prompt], 1)
        return len(prompt) / (times[0] - began)

    def decode(self, prompts, tokens):
        """The sum of all sequences' rates while all of them generate."""
        # Prompts that come at once start one after another, a step or so apart.
        streams = [times for _, times in self.tokens(prompts, tokens + 2 * len(prompts) + 1)]
        begins = max(times[0] for times in streams)
        # A step's tokens come one after another; the last step of the first to end counts for all.
        gap = statistics.median(after - before for before, after in zip(streams[0], streams[0][1:]))
        ends = min(times[-1] for times in streams) + gap / 2
        whole = [[when for when in times if begins <= when <= ends] for times in streams]
        if min(map(len, whole)) < 2:
            raise Failed(f"{len(prompts)} sequences never generated at the same time")
        return sum((len(times) - 1) / (times[-1] - times[0]) for times in whole)

    def tokens(self, prompts, count):
        """When each prompt was sent, and when each of its tokens came."""
        bodies = [
            {
                "input_ids": prompt,
                "input_lengths": len(prompt),
                "request_output_len": count,
                "end_id": -1,
                "streaming": True,
                "exclude_input_in_output": True,
            }
            for prompt in prompts
        ]
        path = "/v2/models/tensorrt_llm/generate_stream"
        streams = clients.play(self.address, path, bodies, len(bodies))
        return [(stream.began, checked(times_of(stream, token_ids), count)) for stream in streams]

    def answers(self, texts, tokens, count):
        bodies = [{"text_input": text, "max_tokens": tokens, "end_id": -1, "stream": True} for text in texts]
        path = "/v2/models/ensemble/generate_stream"
        streams = clients.play(self.address, path, bodies, count)
        return [(stream.began, checked(times_of(stream, lambda event: 1), tokens)) for stream in streams]

    def logged(self):
        """When the first line of the first rank's log was written, on the clock of the day."""
        folder = re.search(r"logs are in (\S+)", self.process.words())
        logs = list(Path(folder[1]).glob("logs/rank0.*")) if folder else []
        if not logs:
            raise Failed("its first rank left no log")
        moment = logs[0].read_text(encoding="utf-8").split(None, 1)[0]
        return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()

    def stop(self):
        self.process.stop()


def token_ids(event):
    ids = event["output_ids"]
    return len(ids) if isinstance(ids, list) else 1
