//! The files of a model repository.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::error::ImportError;
use super::kind::Kind;
use super::leaf::{self, Leaf};
use super::pbtxt::Message;
use super::yaml;

/// The longest file that is read, in bytes.
const LIMIT_BYTES: u64 = 1 << 20;
/// The most models of a repository.
const MOST_MODELS: usize = 256;

pub(crate) const CONFIG: &str = "config.pbtxt";
pub(crate) const MODEL_YAML: &str = "model.yaml";

/// A model repository.
#[derive(Debug)]
pub(crate) struct Repository {
    /// By the names of their folders.
    pub(crate) models: Vec<TritonModel>,
    /// Folders without a config.pbtxt.
    pub(crate) other_folders: Vec<String>,
}

/// A model of a repository.
#[derive(Debug)]
pub(crate) struct TritonModel {
    /// Its folder's name, which clients use.
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) config: Message,
    /// All parameters: of config.pbtxt, then of model.yaml.
    pub(crate) leaves: Vec<Leaf>,
}

impl TritonModel {
    /// A parameter of the `parameters` of config.pbtxt, if it has a value.
    pub(crate) fn parameter(&self, key: &str) -> Option<&str> {
        self.value(CONFIG, &format!("parameters.{key}"))
    }

    /// A value of model.yaml.
    pub(crate) fn yaml_value(&self, path: &str) -> Option<&str> {
        self.value(MODEL_YAML, path)
    }

    fn value(&self, file: &str, path: &str) -> Option<&str> {
        let of_file = |leaf: &&Leaf| leaf.path == path && leaf.file.ends_with(file);
        self.leaves.iter().rfind(of_file)?.given.one()
    }
}

impl Repository {
    /// Reads the files of all models in the folder `path`.
    ///
    /// # Errors
    /// [`ImportError`] at the first file that can't be read or is not what it should be.
    pub(crate) fn read(path: &Path) -> Result<Self, ImportError> {
        if path.join(CONFIG).exists() {
            return Err(ImportError::OneModel { path: path.to_owned() });
        }
        let folders = folders(path)?;
        let mut repository = Self { models: Vec::new(), other_folders: Vec::new() };
        for name in folders {
            match path.join(&name).join(CONFIG).exists() {
                true => repository.models.push(model(path, name)?),
                false => repository.other_folders.push(name),
            }
        }
        if !repository.models.iter().any(|model| model.kind.is_engine()) {
            let found = repository
                .models
                .iter()
                .map(|model| format!("{} ({})", model.name, model.kind.name()));
            let found: Vec<_> = found.collect();
            let found =
                if found.is_empty() { "no config.pbtxt".to_owned() } else { found.join(", ") };
            return Err(ImportError::NoEngine { path: path.to_owned(), found });
        }
        Ok(repository)
    }
}

fn model(repository: &Path, name: String) -> Result<TritonModel, ImportError> {
    let path = repository.join(&name).join(CONFIG);
    let config = Message::parse(&read(&path)?)
        .map_err(|source| ImportError::Syntax { path: path.clone(), source })?;
    let mut leaves = leaf::of_config(&format!("{name}/{CONFIG}"), &path, &config)?;
    let version = version_with_yaml(&repository.join(&name))?;
    if let Some(version) = &version {
        let file = format!("{name}/{version}/{MODEL_YAML}");
        let path = repository.join(&file);
        leaves.extend(yaml::leaves(&file, &path, &read(&path)?)?);
    }
    let kind = Kind::of(&name, &config, version.is_some());
    Ok(TritonModel { name, kind, config, leaves })
}

/// The highest version folder that has a model.yaml.
fn version_with_yaml(model: &Path) -> Result<Option<String>, ImportError> {
    let versions =
        folders(model)?.into_iter().filter_map(|name| Some((name.parse::<u64>().ok()?, name)));
    let with_yaml = versions.filter(|(_, name)| model.join(name).join(MODEL_YAML).exists());
    Ok(with_yaml.max_by_key(|(number, _)| *number).map(|(_, name)| name))
}

/// The folders within a folder, by name, without hidden ones.
fn folders(path: &Path) -> Result<Vec<String>, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with('.') && entry.path().is_dir() {
            names.push(name);
        }
        if names.len() > MOST_MODELS {
            return Err(ImportError::TooManyModels { path: path.to_owned(), limit: MOST_MODELS });
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The text of a file of bounded length.
pub(crate) fn read(path: &Path) -> Result<String, ImportError> {
    let failed = |source| ImportError::Read { path: path.to_owned(), source };
    // Opening a pipe would wait for somebody to write to it.
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(ImportError::NotAFile { path: path.to_owned() });
    }
    let file = fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(ImportError::TooLarge { path: path.to_owned(), limit_bytes: LIMIT_BYTES });
    }
    String::from_utf8(bytes).map_err(|_| ImportError::NotUtf8 { path: path.to_owned() })
}
