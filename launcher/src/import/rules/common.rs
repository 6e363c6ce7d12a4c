//! Parameters that any model of Triton may have.

use super::{FALSE, Known, Rule, known, nothing, so, so_if, without};

const ONE_MODEL_EACH: &str = "a model has one version here, 1";
const NO_BATCHER: &str = "requests join the next iteration; nothing waits for a batch";

/// What config.pbtxt may say of any model.
pub(crate) const COMMON: &[Known] = &[
    known("name", Rule::Served),
    known("backend", nothing("shardrun-worker runs all models", "")),
    known("platform", nothing("shardrun-worker runs all models", "")),
    known("runtime", nothing("shardrun-worker runs all models", "")),
    known("input", so("inputs are those of docs/api.md, by the same names")),
    known("output", so("outputs are those of docs/api.md, by the same names")),
    known(
        "max_batch_size",
        nothing("model.max_batch_size of the engine's model holds for all of its names", ""),
    ),
    known(
        "model_transaction_policy.decoupled",
        so("every model answers in one piece, or streams if the client asks for it"),
    ),
    known("model_transaction_policy", so("clients choose between one answer and a stream")),
    known(
        "dynamic_batching.preserve_ordering",
        so_if(
            FALSE,
            "answers come when they are done",
            without("answers come when they are done", ""),
        ),
    ),
    known(
        "dynamic_batching.default_queue_policy*",
        nothing("the queue is the engine's", "model.max_queue_size, model.queue_timeout_ms"),
    ),
    known(
        "dynamic_batching.priority*",
        nothing("a deployment has no levels of priority", "requests have `priority`"),
    ),
    known(
        "dynamic_batching.default_priority_level",
        nothing("a deployment has no levels of priority", "requests have `priority`"),
    ),
    known("dynamic_batching*", so(NO_BATCHER)),
    known("sequence_batching*", nothing("requests have no sequences that belong together", "")),
    known("instance_group*", nothing("the gateway does this, and there is one", "")),
    known("version_policy*", nothing(ONE_MODEL_EACH, "")),
    known("default_model_filename", nothing("a model is a GGUF file", "model.source")),
    known("cc_model_filenames*", nothing("a model is a GGUF file", "model.source")),
    known("optimization*", nothing("for other backends of Triton", "")),
    known("model_warmup*", nothing("ranks are ready when their weights are packed", "")),
    known(
        "response_cache*",
        nothing("answers are not kept; blocks of prompts are", "kv_cache.enable_block_reuse"),
    ),
    known("model_metrics*", nothing("the buckets of metrics are fixed", "")),
    known("metric_tags*", nothing("labels of metrics are fixed", "")),
    known("model_operations*", nothing("for other backends of Triton", "")),
    known("model_repository_agents*", nothing("there are no repository agents", "")),
];
