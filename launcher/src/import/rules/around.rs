//! Parameters of the models around an engine: preprocessing, postprocessing, ensemble, business logic
//! scripting, disaggregated serving.

use super::{FALSE, Known, Rule, TRUE, known, nothing, so, so_if, without};

const NO_IMAGES: &str = "there are no images here";
const GGUF_TOKENIZER: &str = "the tokenizer is in the GGUF file";

/// What is other with preprocessing and postprocessing.
pub(crate) const INNER: &[Known] = &[
    known("input", so("tokens and text pass within the gateway")),
    known("output", so("tokens and text pass within the gateway")),
];

/// What config.pbtxt may say of one of them.
pub(crate) const AROUND: &[Known] = &[
    known("parameters.tokenizer_dir", Rule::Source(GGUF_TOKENIZER)),
    known("parameters.tokenizer_type", nothing(GGUF_TOKENIZER, "")),
    known(
        "parameters.add_special_tokens",
        nothing(
            "the GGUF file says what a prompt begins with",
            "clients of `tensorrt_llm` send tokens",
        ),
    ),
    known(
        "parameters.skip_special_tokens",
        so_if(
            TRUE,
            "special tokens give no text",
            without("special tokens give no text here", "clients of `tensorrt_llm` get tokens"),
        ),
    ),
    known("parameters.gpt_model_path", nothing("only images needed it", "")),
    known("parameters.multimodal_model_path", nothing(NO_IMAGES, "")),
    known("parameters.visual_model_path", nothing(NO_IMAGES, "")),
    known("parameters.max_num_images", nothing(NO_IMAGES, "")),
    known("parameters.multimodal_encoders_name", nothing(NO_IMAGES, "")),
    known(
        "parameters.accumulate_tokens",
        so_if(
            FALSE,
            "events of a stream have what is new",
            without(
                "events of a stream have what is new here",
                "requests say `return_all_generated_tokens`",
            ),
        ),
    ),
    known("parameters.tensorrt_llm_model_name", so("each model has its engine; see its names")),
    known(
        "parameters.tensorrt_llm_draft_model_name",
        nothing("there is no speculative decoding here", ""),
    ),
    known(
        "parameters.context_model_name",
        nothing("there is no disaggregated serving here", "one model does both"),
    ),
    known(
        "parameters.generation_model_name",
        nothing("there is no disaggregated serving here", "one model does both"),
    ),
    known("ensemble_scheduling", so("text to tokens to text is built in")),
];
