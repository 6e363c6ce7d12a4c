"""The peers, each in processes of its own, on the cores that they are given.

Those of the engine's measures have `prefill(prompt)` and `decode(prompts, tokens)`, which give tokens
per second; prompts are tokens. Servers have `answers(texts, tokens, clients)`, which gives for each
text when it was sent and when each piece of its answer came. What goes wrong is a `Failed`.
"""

import json
import os
import socket
import subprocess
import time
from pathlib import Path

import clients
import peers
from clients import Failed, checked, times_of
from process import START_S, Process, stopped_on_failure

# Longest measure of a peer: to begin with, and for each token that it reads or makes.
MEASURE_S, TOKEN_S = 60.0, 1.0
HERE = Path(__file__).parent


class Peer:
    """One of the `peer_*.py`."""

    def __init__(self, program, arguments, cores, environment=None):
        command = [peers.PYTHON, HERE / program, *arguments]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        self.process = Process(command, cores, environment, **pipes)
        with stopped_on_failure(self.process):
            self.version = self.answer(START_S)["version"]

    def answer(self, patience):
        value = json.loads(self.process.line(patience))
        if "error" in value:
            raise Failed(value["error"])
        return value

    def order(self, what, prompts, tokens):
        """Seconds of a measure in which each prompt is followed by so many tokens."""
        order = {"do": what, "prompts": prompts, "tokens": tokens}
        try:
            self.process.popen.stdin.write(json.dumps(order).encode() + b"\n")
        except OSError:
            raise Failed(self.process.last_words()) from None
        passed = sum(len(prompt) + tokens for prompt in prompts)
        return self.answer(MEASURE_S + TOKEN_S * passed)["seconds"]

    def prefill(self, prompt):
        return len(prompt) / self.order("prefill", [prompt], 0)

    def decode(self, prompts, tokens):
        return len(prompts) * tokens / self.order("decode", prompts, tokens)

    def stop(self):
        self.process.stop()


NOT_INSTALLED = "not installed; `make bench-setup` says why"


def llama_cpp(build, model, cores, sequences):
    if not build.library.exists():
        raise Failed(NOT_INSTALLED)
    arguments = ["serve", model, len(cores), sequences]
    return Peer("peer_llama_cpp.py", arguments, cores, llama_cpp_environment(build))


def llama_cpp_environment(build):
    return {"LLAMA_CPP_LIB_PATH": str(build.libraries), "PYTHONPATH": str(peers.SOURCE)}


def q4_0(build, model):
    """The model in Q4_0, made by llama.cpp if need be."""
    copy = peers.q4_0(model)
    if not copy.exists():
        if not build.library.exists():
            raise Failed(NOT_INSTALLED)
        part = copy.with_name(f"{copy.name}.part{os.getpid()}")
        command = [peers.PYTHON, HERE / "peer_llama_cpp.py", "quantize", model, part]
        try:
            process = Process(command, os.sched_getaffinity(0), llama_cpp_environment(build))
            with stopped_on_failure(process):
                if process.popen.wait() != 0:
                    raise Failed(process.last_words())
            part.rename(copy)
        finally:
            part.unlink(missing_ok=True)
    return str(copy)


def openvino(isa, model, cores, sequences):
    if isa:
        raise Failed(f"it can't be held to {isa}")
    if not list(peers.VENV.glob("lib/python*/site-packages/openvino_genai")):
        raise Failed(NOT_INSTALLED)
    return Peer("peer_openvino.py", [model, len(cores), sequences], cores)


class Server:
    """A server that speaks OpenAI's completions."""

    def __init__(self, version, command, cores, environment, extra):
        self.version, self.extra = version, extra
        self.process = Process(command, cores, environment, stdout=subprocess.DEVNULL)

    def wait(self, address):
        """Itself, once it says that it is well."""
        self.address, deadline = address, time.perf_counter() + START_S
        with stopped_on_failure(self.process):
            while not self.well():
                if self.process.popen.poll() is not None:
                    raise Failed(self.process.last_words())
                if time.perf_counter() > deadline:
                    raise Failed(f"not ready after {START_S:.0f} s")
                time.sleep(0.002)
        return self

    def well(self):
        host, _, port = self.address.rpartition(":")
        request = f"GET /health HTTP/1.1\r\nHost: {self.address}\r\nConnection: close\r\n\r\n"
        try:
            with socket.create_connection((host, int(port)), 1.0) as connection:
                connection.sendall(request.encode())
                return b" 200 " in connection.recv(64)
        except OSError:
            return False

    def answers(self, texts, tokens, count):
        bodies = [
            {
                "prompt": text,
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            | self.extra
            for text in texts
        ]
        streams = clients.play(self.address, "/v1/completions", bodies, count)
        return [(stream.began, self.times(stream, tokens)) for stream in streams]

    def times(self, stream, tokens):
        """Of pieces of text, which are fewer than tokens where one waits to be whole characters."""
        usage = [event["usage"] for _, event in clients.events(stream) if event.get("usage")]
        if not usage or usage[-1]["completion_tokens"] != tokens:
            raise Failed(f"{usage[-1:]} where {tokens} tokens were asked for")
        pieces = times_of(stream, lambda event: sum(bool(choice["text"]) for choice in event["choices"]))
        return pieces or checked(pieces, tokens)

    def stop(self):
        self.process.stop()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def llama_server(build, model, cores, sequences, options=()):
    if not build.server.exists():
        raise Failed(f"not built for {build.isa}" if build.isa else NOT_INSTALLED)
    port = free_port()
    command = [build.server, "--model", model, "--host", "127.0.0.1", "--port", port]
    command += ["--threads", len(cores), "--parallel", sequences, "--ctx-size", 256 * sequences, *options]
    version = f"llama-cpp-python {peers.LLAMA_CPP_PYTHON}"
    server = Server(version, command, cores, {}, {"cache_prompt": False})
    return server.wait(f"127.0.0.1:{port}")


def vllm(isa, cores, sequences):
    if isa:
        raise Failed(f"it can't be held to {isa}")
    if not peers.VLLM:
        raise Failed("optional: SHARDRUN_BENCH_VLLM names no virtual environment that has it")
    program = Path(peers.VLLM) / "bin" / "vllm"
    if not program.exists():
        raise Failed(f"{program} is not there")
    if not peers.VLLM_MODEL:
        raise Failed("SHARDRUN_BENCH_VLLM_MODEL names no folder with the model in a form that it reads")
    port = free_port()
    command = [program, "serve", peers.VLLM_MODEL, "--host", "127.0.0.1", "--port", port]
    command += ["--max-num-seqs", sequences, "--max-model-len", 1024, "--no-enable-prefix-caching"]
    environment = {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(cores))),
        "VLLM_CPU_KVCACHE_SPACE": "1",
    }
    found = [path.stem for path in Path(peers.VLLM).glob("lib/python*/site-packages/vllm*.dist-info")]
    version = found[0] if found else "of unknown version"
    server = Server(version, command, cores, environment, {"model": peers.VLLM_MODEL})
    return server.wait(f"127.0.0.1:{port}")
