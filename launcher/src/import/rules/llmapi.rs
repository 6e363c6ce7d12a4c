//! Parameters of a model.yaml: arguments of TensorRT-LLM's LLM class.

use super::{FALSE, Known, Rule, TRUE, known, nothing, so, so_if, without};

const NO_LORA: &str = "there are no adapters here";
const NO_GRAPHS: &str = "belongs to TensorRT-LLM's kernels";
const NO_TIER: &str = "there is no second tier of the cache here";
const IN_GGUF: &str = "the GGUF file brings its types and its tokenizer";
const OTHER_PARALLEL: &str = "ranks share layers here, and nothing else";
const STATISTICS: &str = "statistics are always there, at /iteration_stats";

/// What is other than with an engine in the config.pbtxt beside a model.yaml.
pub(crate) const LLMAPI_CONFIG: &[Known] = &[
    known(
        "input",
        nothing(
            "inputs have other names here, as `temperature` for `sampling_param_temperature`",
            "docs/api.md",
        ),
    ),
    known(
        "output",
        nothing(
            "`text_output` is the same; reasons why an answer ended are not told",
            "docs/api.md",
        ),
    ),
];

/// What a model.yaml may say.
pub(crate) const LLMAPI: &[Known] = &[
    known("model", Rule::Source("a model is a GGUF file here")),
    known("tokenizer", Rule::Source("the tokenizer is in the GGUF file")),
    known("backend", nothing("shardrun-worker runs all models", "")),
    known("tensor_parallel_size", Rule::Placement),
    known("pipeline_parallel_size", Rule::Placement),
    known("context_parallel_size", Rule::Placement),
    known("moe_*", nothing(OTHER_PARALLEL, "")),
    known("enable_attention_dp", so_if(FALSE, OTHER_PARALLEL, without(OTHER_PARALLEL, ""))),
    known(
        "gpus_per_node",
        nothing("nodes are not a matter of the model here", "launch.hosts, or slurm.gpus_per_node"),
    ),
    known("max_batch_size", Rule::Number("model.max_batch_size")),
    known("max_num_tokens", Rule::Number("model.max_num_tokens")),
    known("max_seq_len", Rule::Number("model.max_seq_len")),
    known("max_beam_width", Rule::Number("model.max_beam_width")),
    known("max_input_len", nothing("prompt and output share model.max_seq_len", "")),
    known("triton_config.max_batch_size", so("requests are batched, whatever Triton knows of it")),
    known("triton_config.decoupled", so("every model streams if the client asks for it")),
    known("kv_cache_config.max_tokens", Rule::Number("kv_cache.max_tokens")),
    known("kv_cache_config.tokens_per_block", Rule::Number("kv_cache.tokens_per_block")),
    known("kv_cache_config.enable_block_reuse", Rule::Truth("kv_cache.enable_block_reuse")),
    known("kv_cache_config.enable_partial_reuse", Rule::Truth("kv_cache.enable_partial_reuse")),
    known("kv_cache_config.copy_on_partial_reuse", so("parts of blocks are copied")),
    known("kv_cache_config.max_attention_window", Rule::Numbers("kv_cache.max_attention_window")),
    known("kv_cache_config.event_buffer_max_size", Rule::Number("kv_cache.event_buffer_max_size")),
    known(
        "kv_cache_config.free_gpu_memory_fraction",
        nothing(
            "the cache's size is not a share of memory here",
            "kv_cache.max_tokens, which counts tokens",
        ),
    ),
    known(
        "kv_cache_config.dtype",
        Rule::Word(
            "kv_cache.dtype",
            &[
                ("bfloat16", "bf16"),
                ("bf16", "bf16"),
                ("float16", "f16"),
                ("fp16", "f16"),
                ("float32", "f32"),
                ("int8", "int8"),
            ],
        ),
    ),
    known("kv_cache_config.host_cache_size", so_if(&["0"], NO_TIER, without(NO_TIER, ""))),
    known("kv_cache_config.onboard_blocks", nothing(NO_TIER, "")),
    known("kv_cache_config.secondary_offload_min_priority", nothing(NO_TIER, "")),
    known(
        "kv_cache_config.sink_token_length",
        so_if(
            &["0"],
            "no tokens outlast their window",
            without("no tokens outlast their window here", ""),
        ),
    ),
    known(
        "scheduler_config.capacity_scheduler_policy",
        Rule::Word(
            "model.batch_scheduler_policy",
            &[
                ("GUARANTEED_NO_EVICT", "guaranteed_no_evict"),
                ("MAX_UTILIZATION", "max_utilization"),
                ("STATIC_BATCH", "static_batch"),
            ],
        ),
    ),
    known(
        "scheduler_config.context_chunking_policy",
        Rule::Word(
            "model.context_chunking_policy",
            &[
                ("FIRST_COME_FIRST_SERVED", "first_come_first_served"),
                ("EQUAL_PROGRESS", "equal_progress"),
            ],
        ),
    ),
    known(
        "enable_chunked_prefill",
        so_if(
            TRUE,
            "prompts are prefilled in parts that fit model.max_num_tokens, \
             and model.prefill_budget beside generation",
            without(
                "prompts are prefilled in parts here, by model.max_num_tokens, and beside \
                 generation by model.prefill_budget",
                "larger values of both",
            ),
        ),
    ),
    known("iter_stats_max_iterations", Rule::Number("metrics.iter_stats_max_iterations")),
    known("request_stats_max_iterations", Rule::Number("metrics.request_stats_max_iterations")),
    known("enable_iter_perf_stats", so(STATISTICS)),
    known("enable_iter_req_stats", nothing(STATISTICS, "metrics.request_stats_max_iterations")),
    known("print_iter_log", nothing("iterations are not logged", "/iteration_stats")),
    known("guided_decoding_backend", so("guided decoding is built in")),
    known("enable_lora", so_if(FALSE, NO_LORA, without(NO_LORA, ""))),
    known("lora_config*", nothing(NO_LORA, "")),
    known("speculative_config*", nothing("there is no speculative decoding here", "")),
    known("dtype", nothing(IN_GGUF, "")),
    known("quant_config*", nothing(IN_GGUF, "")),
    known("load_format", nothing(IN_GGUF, "")),
    known("revision", nothing(IN_GGUF, "model.sha256")),
    known("tokenizer_revision", nothing(IN_GGUF, "model.sha256")),
    known("tokenizer_mode", nothing(IN_GGUF, "")),
    known("trust_remote_code", so("no code comes with a model")),
    known(
        "skip_tokenizer_init",
        nothing("tokens in, tokens out is a name of each model", "clients ask for `tensorrt_llm`"),
    ),
    known("cuda_graph_config*", nothing(NO_GRAPHS, "")),
    known("pytorch_backend_config*", nothing(NO_GRAPHS, "")),
    known("torch_compile_config*", nothing(NO_GRAPHS, "")),
    known("attn_backend", nothing(NO_GRAPHS, "")),
    known(
        "allreduce_strategy",
        nothing("sums are taken in the order of ranks", "model.collectives"),
    ),
    known("disable_overlap_scheduler", nothing(NO_GRAPHS, "")),
    known("num_postprocess_workers", nothing("text is processed in the gateway", "")),
    known("cache_transceiver_config*", nothing("there is no disaggregated serving here", "")),
];
