//! What a model of a repository is for.

use super::pbtxt::Message;

/// The kinds of models that a repository for TensorRT-LLM is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Runs an engine: the model `tensorrt_llm`.
    Engine,
    /// Text in, text out, by TensorRT-LLM's own interface, with a model.yaml.
    LlmApi,
    Preprocessing,
    Postprocessing,
    /// The three above as one.
    Ensemble,
    /// The same in code: the model `tensorrt_llm_bls`.
    Bls,
    /// Hands a request from one engine to another.
    Disaggregated,
    /// Something else.
    Other,
}

impl Kind {
    /// Told by the backend, by parameters and tensors that only one kind has, and then by name.
    pub(crate) fn of(name: &str, config: &Message, has_yaml: bool) -> Self {
        let parameter =
            |key: &str| config.messages("parameters").any(|entry| entry.text("key") == Some(key));
        let input = |wanted: &str| {
            config.messages("input").any(|tensor| tensor.text("name") == Some(wanted))
        };
        let is_ensemble = config.text("platform") == Some("ensemble")
            || config.messages("ensemble_scheduling").next().is_some();
        let backend = config.text("backend").unwrap_or_default();
        if is_ensemble {
            Kind::Ensemble
        } else if matches!(backend, "tensorrtllm" | "tensorrt_llm") {
            Kind::Engine
        } else if backend != "python" {
            Kind::Other
        } else if parameter("context_model_name") && parameter("generation_model_name") {
            Kind::Disaggregated
        } else if has_yaml || input("sampling_param_max_tokens") {
            Kind::LlmApi
        } else if input("QUERY") {
            Kind::Preprocessing
        } else if input("TOKENS_BATCH") {
            Kind::Postprocessing
        } else if parameter("gpt_model_type") {
            Kind::Engine
        } else if parameter("tensorrt_llm_model_name") {
            Kind::Bls
        } else {
            Self::by_name(name)
        }
    }

    /// Of python models that say nothing of themselves; a copy has a number behind its name.
    fn by_name(name: &str) -> Self {
        [
            ("preprocessing", Kind::Preprocessing),
            ("postprocessing", Kind::Postprocessing),
            ("tensorrt_llm_bls", Kind::Bls),
            ("tensorrt_llm", Kind::Engine),
        ]
        .into_iter()
        .find(|(begin, _)| {
            name.strip_prefix(begin).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
        })
        .map_or(Kind::Other, |(_, kind)| kind)
    }

    /// Whether it becomes a model of the deployment.
    pub(crate) fn is_engine(self) -> bool {
        matches!(self, Kind::Engine | Kind::LlmApi)
    }

    /// In words.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Engine => "an engine",
            Kind::LlmApi => "an LLM API model",
            Kind::Preprocessing => "preprocessing",
            Kind::Postprocessing => "postprocessing",
            Kind::Ensemble => "an ensemble",
            Kind::Bls => "business logic scripting",
            Kind::Disaggregated => "disaggregated serving",
            Kind::Other => "unknown",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn models_are_known_by_what_they_have() {
        let parameter =
            |key: &str| format!("parameters {{ key: \"{key}\" value {{ string_value: \"x\" }} }}");
        let python = |rest: &str| format!("backend: \"python\" {rest}");
        for (name, config, kind) in [
            ("a", "backend: \"tensorrtllm\"".to_owned(), Kind::Engine),
            ("a", python(&parameter("gpt_model_type")), Kind::Engine),
            ("tensorrt_llm_2", python(""), Kind::Engine),
            // It has the engine's path, too.
            (
                "a",
                python(&format!("input [{{name: \"QUERY\"}}] {}", parameter("gpt_model_path"))),
                Kind::Preprocessing,
            ),
            ("a", python("input {name: \"TOKENS_BATCH\"}"), Kind::Postprocessing),
            ("postprocessing_2", python(""), Kind::Postprocessing),
            ("a", "platform: \"ensemble\"".to_owned(), Kind::Ensemble),
            ("a", python(&parameter("tensorrt_llm_model_name")), Kind::Bls),
            ("tensorrt_llm_bls_2", python(""), Kind::Bls),
            (
                "a",
                python(&format!(
                    "{} {}",
                    parameter("context_model_name"),
                    parameter("generation_model_name")
                )),
                Kind::Disaggregated,
            ),
            ("a", python("input {name: \"sampling_param_max_tokens\"}"), Kind::LlmApi),
            ("tensorrt_llm", "backend: \"onnxruntime\"".to_owned(), Kind::Other),
            ("tensorrt_llms", python(""), Kind::Other),
        ] {
            let config = Message::parse(&config).unwrap();
            assert_eq!(Kind::of(name, &config, false), kind, "{name} {config:?}");
        }
        let config = Message::parse(&python("")).unwrap();
        assert_eq!(Kind::of("a", &config, true), Kind::LlmApi);
    }
}
