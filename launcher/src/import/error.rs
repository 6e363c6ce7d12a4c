//! What can be wrong with a model repository.

use std::path::PathBuf;

use super::pbtxt::{Place, SyntaxError};

/// Why a repository can't be imported.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("{}: cannot read it: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: larger than {limit_bytes} bytes, so none of a model repository's files", path.display())]
    TooLarge { path: PathBuf, limit_bytes: u64 },
    #[error("{}: not UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error("{}: not a regular file", path.display())]
    NotAFile { path: PathBuf },
    #[error("{}:{source}", path.display())]
    Syntax { path: PathBuf, source: SyntaxError },
    #[error("{}:{}:{}: {what}", path.display(), at.line, at.column)]
    Field { path: PathBuf, at: Place, what: String },
    #[error("{}:{line}:{column}: {what}", path.display())]
    Yaml { path: PathBuf, line: usize, column: usize, what: String },
    #[error("{}: not JSON: {source}", path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error(
        "{}: this is one model's folder; name the folder above it, the model repository",
        path.display()
    )]
    OneModel { path: PathBuf },
    #[error("{}: holds more than {limit} models", path.display())]
    TooManyModels { path: PathBuf, limit: usize },
    #[error(
        "{}: no folder in it is a model that TensorRT-LLM runs (backend \"tensorrtllm\", or a python model with \
         gpt_model_type or model.yaml); found: {found}",
        path.display()
    )]
    NoEngine { path: PathBuf, found: String },
    #[error("--source {given}: {why}")]
    Source { given: String, why: shardrun_config::SourceError },
    #[error(
        "--source {given}: no engine's model is called {folder}, only {models}; a path with '=' in it \
         begins with ./ or /"
    )]
    NoSuchModel { given: String, folder: String, models: String },
    #[error("--source {given}: the working directory is unknown: {why}")]
    NoWorkingDirectory { given: String, why: std::io::Error },
    #[error("--source {given}: not UTF-8, which a deployment file cannot hold")]
    SourceNotUtf8 { given: String },
    #[error("--source is given twice for {what}")]
    SourceTwice { what: String },
}
