//! Parameters of the model that runs an engine, and of the engine's own config.json.

use super::{FALSE, Known, Rule, TRUE, known, nothing, so, so_if, without};

const NO_LORA: &str = "there are no adapters here";
const NO_SPECULATION: &str = "there is no speculative decoding here";
const NO_ENCODER: &str = "there are no encoder models here";
const NO_GRAPHS: &str = "belongs to TensorRT-LLM's kernels";
const IN_TOKENS: &str = "kv_cache.max_tokens, which counts tokens";
const NO_TIER: &str = "there is no second tier of the cache here";
const NO_BATCHER: &str = "requests join the next iteration; nothing waits for a batch";
const GGUF_TOKENIZER: &str = "the tokenizer is in the GGUF file";
const GUIDES: &str = "guided decoding is built in, with the tokenizer of the GGUF file";

/// What config.pbtxt may say of an engine's model, in the order in which it is decided: where two set
/// one key the first counts.
pub(crate) const ENGINE: &[Known] = &[
    known("max_batch_size", Rule::Number("model.max_batch_size")),
    known(
        "dynamic_batching.default_queue_policy.max_queue_size",
        Rule::Bound("model.max_queue_size"),
    ),
    known(
        "dynamic_batching.default_queue_policy.default_timeout_microseconds",
        Rule::Micros("model.queue_timeout_ms"),
    ),
    known(
        "dynamic_batching.default_queue_policy.timeout_action",
        so_if(
            &["reject"],
            "a request that waited too long is refused",
            without("a request that waited too long is refused here", ""),
        ),
    ),
    known(
        "dynamic_batching.default_queue_policy.allow_timeout_override",
        so_if(
            TRUE,
            "requests have `timeout`",
            without("a request may always name a `timeout` here, for its whole life", ""),
        ),
    ),
    known("dynamic_batching.max_queue_delay_microseconds", so(NO_BATCHER)),
    known("dynamic_batching.preferred_batch_size", so(NO_BATCHER)),
    known("instance_group.count", Rule::Placement),
    known("instance_group.kind", nothing("the engine's model ignores it in Triton, too", "")),
    known(
        "instance_group.gpus",
        nothing("the engine's model ignores it in Triton, too", "model.gpu_device_ids"),
    ),
    known("instance_group.name", nothing("instances are numbered", "")),
    known(
        "instance_group*",
        nothing("ranks are placed by nodes and cores", "model.gpu_device_ids"),
    ),
    known("parameters.gpt_model_type", Rule::BatchType),
    known(
        "parameters.batch_scheduler_policy",
        Rule::Word(
            "model.batch_scheduler_policy",
            &[
                ("guaranteed_no_evict", "guaranteed_no_evict"),
                ("max_utilization", "max_utilization"),
            ],
        ),
    ),
    known(
        "parameters.gpt_model_path",
        Rule::Source("an engine of TensorRT-LLM can't be loaded here"),
    ),
    known("parameters.encoder_model_path", nothing(NO_ENCODER, "")),
    known("parameters.max_beam_width", Rule::Number("model.max_beam_width")),
    known("parameters.max_tokens_in_paged_kv_cache", Rule::Number("kv_cache.max_tokens")),
    known("parameters.max_attention_window_size", Rule::Numbers("kv_cache.max_attention_window")),
    known("parameters.enable_kv_cache_reuse", Rule::Truth("kv_cache.enable_block_reuse")),
    known(
        "parameters.kv_cache_free_gpu_mem_fraction",
        nothing("the cache's size is not a share of memory here", IN_TOKENS),
    ),
    known("parameters.cross_kv_cache_fraction", nothing(NO_ENCODER, "")),
    known(
        "parameters.sink_token_length",
        so_if(
            &["0"],
            "no tokens outlast their window",
            without("no tokens outlast their window here", ""),
        ),
    ),
    known(
        "parameters.kv_cache_host_memory_bytes",
        so_if(&["0"], NO_TIER, without(NO_TIER, IN_TOKENS)),
    ),
    known("parameters.kv_cache_onboard_blocks", nothing(NO_TIER, "")),
    known(
        "parameters.exclude_input_in_output",
        so_if(
            FALSE,
            "the prompt is part of an answer, unless the request says otherwise",
            without(
                "the prompt is part of an answer here",
                "requests say `exclude_input_in_output`",
            ),
        ),
    ),
    known(
        "parameters.cancellation_check_period_ms",
        so("a cancelled request leaves before the next iteration"),
    ),
    known("parameters.stats_check_period_ms", so("statistics are there after each iteration")),
    known(
        "parameters.iter_stats_max_iterations",
        Rule::Number("metrics.iter_stats_max_iterations"),
    ),
    known(
        "parameters.request_stats_max_iterations",
        Rule::Number("metrics.request_stats_max_iterations"),
    ),
    known(
        "parameters.normalize_log_probs",
        so_if(
            FALSE,
            "`cum_log_probs` is the sum",
            without("`cum_log_probs` is the sum here", "divide by the length of the sequence"),
        ),
    ),
    known(
        "parameters.enable_chunked_context",
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
    known("parameters.gpu_device_ids", Rule::Placement),
    known("parameters.participant_ids", Rule::Placement),
    known(
        "parameters.num_nodes",
        so_if(
            &["1"],
            "ranks are on one node, unless there are more",
            without("nodes are not a matter of the model here", "launch.hosts, or slurm.nodes"),
        ),
    ),
    known("parameters.lora_cache_optimal_adapter_size", nothing(NO_LORA, "")),
    known("parameters.lora_cache_max_adapter_size", nothing(NO_LORA, "")),
    known("parameters.lora_cache_gpu_memory_fraction", nothing(NO_LORA, "")),
    known("parameters.lora_cache_host_memory_bytes", nothing(NO_LORA, "")),
    known("parameters.lora_prefetch_dir", nothing(NO_LORA, "")),
    known(
        "parameters.decoding_mode",
        so_if(
            &["top_k", "top_p", "top_k_top_p", "beam_search"],
            "each request chooses sampling or beams itself",
            without(NO_SPECULATION, ""),
        ),
    ),
    known("parameters.executor_worker_path", so("shardrun-worker is found beside shardrun")),
    known("parameters.worker_path", so("shardrun-worker is found beside shardrun")),
    known("parameters.lookahead_window_size", nothing(NO_SPECULATION, "")),
    known("parameters.lookahead_ngram_size", nothing(NO_SPECULATION, "")),
    known("parameters.lookahead_verification_set_size", nothing(NO_SPECULATION, "")),
    known("parameters.medusa_choices", nothing(NO_SPECULATION, "")),
    known("parameters.eagle_choices", nothing(NO_SPECULATION, "")),
    known(
        "parameters.speculative_decoding_fast_logits",
        so_if(FALSE, NO_SPECULATION, without(NO_SPECULATION, "")),
    ),
    known(
        "parameters.gpu_weights_percent",
        so_if(
            &["1", "1.0"],
            "all weights stay in memory",
            without("all weights stay in memory", ""),
        ),
    ),
    known("parameters.enable_context_fmha_fp32_acc", so("attention adds up in float32")),
    known("parameters.multi_block_mode", nothing(NO_GRAPHS, "")),
    known("parameters.cuda_graph_mode", nothing(NO_GRAPHS, "")),
    known("parameters.cuda_graph_cache_size", nothing(NO_GRAPHS, "")),
    known("parameters.enable_trt_overlap", nothing(NO_GRAPHS, "")),
    known("parameters.tokenizer_dir", Rule::Source(GGUF_TOKENIZER)),
    known("parameters.guided_decoding_backend", so(GUIDES)),
    known("parameters.xgrammar_tokenizer_info_path", so(GUIDES)),
    known(
        "parameters.FORCE_CPU_ONLY_INPUT_TENSORS",
        so("tensors come by HTTP, and are in the CPU's memory"),
    ),
    known("parameters.recv_poll_period_ms", so("nobody polls for requests")),
];

/// What an engine's config.json says that matters here.
pub(crate) const BUILT: &[Known] = &[
    known("pretrained_config.mapping.tp_size", Rule::Placement),
    known("pretrained_config.mapping.pp_size", Rule::Placement),
    known("pretrained_config.mapping.cp_size", Rule::Placement),
    known("build_config.max_seq_len", Rule::Number("model.max_seq_len")),
    known("build_config.max_num_tokens", Rule::Number("model.max_num_tokens")),
    known("build_config.max_batch_size", Rule::Number("model.max_batch_size")),
    known("build_config.max_beam_width", Rule::Number("model.max_beam_width")),
    known("build_config.plugin_config.tokens_per_block", Rule::Number("kv_cache.tokens_per_block")),
];
