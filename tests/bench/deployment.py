"""A deployment of ours: a subject of the engine's measures and a server, both over HTTP."""

import http.client
import re
import statistics
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

import clients
from clients import Failed, checked, times_of
from process import START_S, Process, stopped_on_failure


class Deployment:
    """A deployment file with settings, each `KEY=VALUE`, in a run folder that goes when it stops."""

    def __init__(self, shardrun, config, cores, settings):
        self.folder = tempfile.TemporaryDirectory(prefix="shardrun-bench-", ignore_cleanup_errors=True)
        command = [shardrun, "serve", config, "--http-port", "0", "--metrics-port", "0"]
        for setting in [f"run.dir={self.folder.name}", *settings]:
            command += ["--set", setting]
        self.process = Process(command, cores, stdout=subprocess.PIPE)
        with stopped_on_failure(self):
            self.address = self.announced("HTTP")
            self.metrics = self.announced("metrics")

    def announced(self, what):
        """The next address that it prints as this."""
        while True:
            if found := re.search(rf"{what} +http://([^/\s]+)", self.process.line(START_S)):
                return found[1]

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
        number = lambda event: len(token_ids(event))
        streams = self.streams([(prompt, count) for prompt in prompts])
        return [(stream.began, checked(times_of(stream, number), count)) for stream in streams]

    def streams(self, requests, due=None):
        """A stream for each (prompt, tokens to generate); sent at once, or each when it is due."""
        bodies = [
            {
                "input_ids": prompt,
                "input_lengths": len(prompt),
                "request_output_len": count,
                "end_id": -1,
                "streaming": True,
                "exclude_input_in_output": True,
            }
            for prompt, count in requests
        ]
        path = "/v2/models/tensorrt_llm/generate_stream"
        return clients.play(self.address, path, bodies, len(bodies), due)

    def answers(self, texts, tokens, count):
        bodies = [{"text_input": text, "max_tokens": tokens, "end_id": -1, "stream": True} for text in texts]
        path = "/v2/models/ensemble/generate_stream"
        streams = clients.play(self.address, path, bodies, count)
        return [(stream.began, checked(times_of(stream, lambda event: 1), tokens)) for stream in streams]

    def counter(self, name):
        """What /metrics says of it now."""
        connection = http.client.HTTPConnection(self.metrics, timeout=clients.PATIENCE_S)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except OSError as error:
            raise Failed(f"{self.metrics}: {error}") from None
        finally:
            connection.close()
        if found := re.search(rf"^{name}\S* (\S+)$", text, re.MULTILINE):
            return float(found[1])
        raise Failed(f"/metrics has no {name}")

    def logged(self):
        """When the first line of the first rank's log was written, on the clock of the day."""
        logs = list(Path(self.folder.name).glob("*/logs/rank0.*"))
        if not logs:
            raise Failed("its first rank left no log")
        moment = logs[0].read_text(encoding="utf-8").split(None, 1)[0]
        return datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()

    def stop(self):
        self.process.stop()
        self.folder.cleanup()


def token_ids(event):
    """Of an event of the tokens' endpoint, which writes a single one as a number."""
    ids = event["output_ids"]
    return ids if isinstance(ids, list) else [ids]
