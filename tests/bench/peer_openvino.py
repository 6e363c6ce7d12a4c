"""OpenVINO GenAI in a process of its own, through its continuous batching:

    peer_openvino.py MODEL THREADS SEQUENCES

It reads GGUF files as they are.
"""

import sys
import time

import numpy
import openvino
import openvino_genai

from peer import serve


class OpenVino:
    def __init__(self, path, threads, sequences):
        self.version = f"OpenVINO GenAI {openvino_genai.__version__.split('-')[0]}"
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.max_num_seqs = sequences
        scheduler.max_num_batched_tokens = 2048
        scheduler.enable_prefix_caching = False
        scheduler.cache_size = 1
        properties = {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": True}
        self.pipeline = openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", properties)
        self.requests = 0

    def add(self, prompt, tokens):
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        self.requests += 1
        ids = openvino.Tensor(numpy.array([prompt], dtype=numpy.int64))
        return self.pipeline.add_request(self.requests, ids, config)

    def prefill(self, prompt):
        began = time.perf_counter()
        handle = self.add(prompt, 1)  # a request whose handle is dropped is not computed
        self.pipeline.step()
        seconds = time.perf_counter() - began
        self.check([handle], 1)
        return seconds

    def decode(self, prompts, tokens):
        handles = [self.add(prompt, tokens + 1) for prompt in prompts]
        self.pipeline.step()
        began = time.perf_counter()
        for _ in range(tokens):
            self.pipeline.step()
        seconds = time.perf_counter() - began
        self.check(handles, tokens + 1)
        return seconds

    def check(self, handles, tokens):
        """Each step was to bring each sequence a token."""
        found = {len(result.generated_ids) for handle in handles for result in handle.read_all()}
        if self.pipeline.has_non_finished_requests() or found != {tokens}:
            raise RuntimeError(f"{found} tokens came where each sequence was to get {tokens}")


if __name__ == "__main__":
    path, threads, sequences = sys.argv[1:]
    serve(lambda: OpenVino(path, int(threads), int(sequences)))
