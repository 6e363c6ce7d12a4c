"""llama.cpp in a process of its own, through its C interface:

    peer_llama_cpp.py serve MODEL THREADS SEQUENCES
    peer_llama_cpp.py quantize MODEL COPY        # a copy of the model in Q4_0

Needs `LLAMA_CPP_LIB_PATH`, and llama-cpp-python's source on `PYTHONPATH`.
"""

import os
import sys
import time

import numpy
from llama_cpp import __version__ as version
from llama_cpp import llama_cpp as api

from peer import serve

CONTEXT = 1024  # of one sequence; less of each where there are many
TOKENS_OF_MANY = 256


@api.llama_log_callback
def silent(_level, _text, _data):
    pass


class LlamaCpp:
    """A model with two contexts: one for a single sequence, one for many, as llama-batched-bench has."""

    def __init__(self, path, threads, sequences):
        api.llama_backend_init()
        self.version = f"llama-cpp-python {version}"
        parameters = api.llama_model_default_params()
        self.model = api.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError(f"llama.cpp does not load {path}")
        vocabulary = api.llama_model_get_vocab(self.model)
        self.vocabulary = api.llama_vocab_n_tokens(vocabulary)
        self.single = self.context(threads, 1, CONTEXT)
        self.many = self.context(threads, sequences, TOKENS_OF_MANY * sequences)

    def context(self, threads, sequences, tokens):
        parameters = api.llama_context_default_params()
        parameters.n_ctx, parameters.n_seq_max = tokens, sequences
        parameters.n_batch, parameters.n_ubatch = 2048, 512
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.no_perf = True
        context = api.llama_init_from_model(self.model, parameters)
        if not context:
            raise RuntimeError(f"llama.cpp makes no context of {tokens} tokens")
        return context

    def run(self, context, rows):
        """One pass over rows of (token, position, sequence, whether sampled); the greedy choices."""
        batch = api.llama_batch_init(len(rows), 0, 1)
        for index, (token, position, sequence, sampled) in enumerate(rows):
            batch.token[index], batch.pos[index], batch.logits[index] = token, position, sampled
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, sequence
        batch.n_tokens = len(rows)
        status = api.llama_decode(context, batch)
        api.llama_batch_free(batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gives {status}")
        sampled = [index for index, row in enumerate(rows) if row[3]]
        return [self.greedy(context, index) for index in sampled]

    def greedy(self, context, row):
        logits = api.llama_get_logits_ith(context, row)
        return int(numpy.ctypeslib.as_array(logits, (self.vocabulary,)).argmax())

    def empty(self, context):
        api.llama_memory_clear(api.llama_get_memory(context), True)

    def prefill(self, prompt):
        self.empty(self.single)
        rows = prompt_rows(prompt, 0)
        began = time.perf_counter()
        self.run(self.single, rows)
        return time.perf_counter() - began

    def decode(self, prompts, tokens):
        context = self.single if len(prompts) == 1 else self.many
        self.empty(context)
        rows = [row for sequence, prompt in enumerate(prompts) for row in prompt_rows(prompt, sequence)]
        last = self.run(context, rows)
        began = time.perf_counter()
        for step in range(tokens):
            rows = [
                (token, len(prompt) + step, sequence, True)
                for sequence, (token, prompt) in enumerate(zip(last, prompts))
            ]
            last = self.run(context, rows)
        return time.perf_counter() - began


def prompt_rows(prompt, sequence):
    last = len(prompt) - 1
    return [(token, position, sequence, position == last) for position, token in enumerate(prompt)]


def quantize(model, copy):
    parameters = api.llama_model_quantize_default_params()
    parameters.ftype = api.LLAMA_FTYPE_MOSTLY_Q4_0
    parameters.allow_requantize = True
    parameters.nthread = os.cpu_count()
    status = api.llama_model_quantize(model.encode(), copy.encode(), parameters)
    if status != 0:
        sys.exit(f"llama_model_quantize gives {status} for {model}")


if __name__ == "__main__":
    api.llama_log_set(silent, None)
    if sys.argv[1] == "quantize":
        quantize(*sys.argv[2:])
    else:
        path, threads, sequences = sys.argv[2:]
        serve(lambda: LlamaCpp(path, int(threads), int(sequences)))
