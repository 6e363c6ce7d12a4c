//! Defaults < file < environment < flags, each value with its origin.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::file;
use crate::keys::{self, Fallback, KEYS, Key};
use crate::kind::{Kind, Raw, Refusal, Value};
use crate::rules;
use crate::{ConfigError, ConfigErrors, Deployment, Origin};

/// A deployment with where its values came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The deployment.
    pub deployment: Deployment,
    /// Every key with its value and origin, in the order of [`KEYS`].
    pub settings: Vec<Setting>,
}

/// A key's settled value.
#[derive(Debug, Clone)]
pub struct Setting {
    /// The key.
    pub key: &'static Key,
    /// The value, paths made absolute; `None` if the key is optional and nobody set it.
    pub value: Option<Value>,
    /// Who decided.
    pub origin: Origin,
}

/// `KEY=VALUE`, as the flag `--set` takes it.
///
/// # Errors
/// What was expected, if there is no key.
pub fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, as in model.tp_size=4".to_owned()),
    }
}

impl Deployment {
    /// Reads the deployment file at `path` and merges environment variables (name, value) and
    /// flags (dotted path, value) over it; of several flags for one key the last counts.
    ///
    /// Relative paths in the file begin at the file's folder, elsewhere at the working directory.
    /// Home and state folders are taken from `env` too.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong, each with its place.
    pub fn load(
        path: &Path,
        env: impl Iterator<Item = (String, String)>,
        flags: &[(String, String)],
    ) -> Result<Loaded, ConfigErrors> {
        let text = file::read(path)?;
        merge(path, &text, &env.collect(), flags)
    }

    /// Reads what [`Deployment::to_toml`] wrote; nothing is merged over it.
    ///
    /// # Errors
    /// [`ConfigErrors`] if the text is not a whole, valid deployment.
    pub fn from_resolved_toml(text: &str) -> Result<Self, ConfigErrors> {
        let name = Path::new("resolved deployment");
        merge(name, text, &HashMap::new(), &[]).map(|loaded| loaded.deployment)
    }

    /// The deployment as a file that [`Deployment::from_resolved_toml`] and
    /// [`Deployment::load`] read back to the same.
    ///
    /// # Errors
    /// [`ConfigError::Unwritable`] if a path is not UTF-8, which no loaded deployment has.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }
}

/// Values that their keys take, with their origins.
#[derive(Default)]
pub(crate) struct Settled {
    values: HashMap<&'static str, (Value, Origin)>,
    /// Keys that were given a value which they don't take.
    refused: Vec<&'static str>,
}

impl Settled {
    pub(crate) fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(value, _)| value)
    }

    pub(crate) fn origin(&self, key: &str) -> Option<&Origin> {
        self.values.get(key).map(|(_, origin)| origin)
    }

    /// Whether anyone gave the key a value, be it one that it takes or not.
    pub(crate) fn was_given(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.refused.contains(&key)
    }
}

fn merge(
    file: &Path,
    text: &str,
    env: &HashMap<String, String>,
    flags: &[(String, String)],
) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let mut merge = Merge { settled: Settled::default(), errors: &mut errors };
    merge.file(file, text);
    // Without a readable file, all that would follow is keys that it may well have.
    if merge.errors.iter().any(|error| matches!(error, ConfigError::Syntax { .. })) {
        return Err(ConfigErrors(errors));
    }
    merge.env(env);
    merge.flags(flags);
    merge.defaults(file, env);
    let mut settled = merge.settled;
    errors.extend(absolute_paths(&mut settled, file, env));
    errors.extend(rules::broken(&settled, file));
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    Ok(Loaded { deployment: assemble(&settled), settings: settings(settled) })
}

struct Merge<'a> {
    settled: Settled,
    errors: &'a mut Vec<ConfigError>,
}

impl Merge<'_> {
    fn file(&mut self, file: &Path, text: &str) {
        for entry in file::parse(file, text, self.errors) {
            self.set(entry.key, &entry.raw, entry.origin);
        }
    }

    fn env(&mut self, env: &HashMap<String, String>) {
        for key in KEYS {
            let name = key.env_name();
            if let Some(text) = env.get(&name) {
                self.set(key, &Raw::from_text(key.kind, text), Origin::Env(name));
            }
        }
        let stranger = |name: &String| {
            let path = keys::path_of_env(name)?;
            let nearest = keys::nearest(&path).and_then(keys::find).map(Key::env_name);
            let unknown = keys::find(&path).is_none();
            unknown.then(|| ConfigError::UnknownVariable { name: name.clone(), nearest })
        };
        let mut names: Vec<_> = env.keys().collect();
        names.sort_unstable();
        self.errors.extend(names.into_iter().filter_map(stranger));
    }

    fn flags(&mut self, flags: &[(String, String)]) {
        for (path, text) in flags {
            match keys::find(path) {
                Some(key) => self.set(key, &Raw::from_text(key.kind, text), Origin::Flag),
                None => self.errors.push(ConfigError::UnknownKey {
                    origin: Origin::Flag,
                    key: crate::kind::shortened(path),
                    nearest: keys::nearest(path),
                }),
            }
        }
    }

    fn defaults(&mut self, file: &Path, env: &HashMap<String, String>) {
        for key in KEYS {
            if self.settled.was_given(key.path) {
                continue;
            }
            match key.fallback {
                Fallback::Is(text) => {
                    self.set(key, &Raw::from_text(key.kind, text), Origin::Default);
                }
                Fallback::AtMost(number, other) => {
                    let bound = match self.settled.value(other) {
                        Some(Value::Integer(bound)) => *bound,
                        // It was refused, so this number is never used.
                        _ => number,
                    };
                    let text = number.min(bound).to_string();
                    self.set(key, &Raw::from_text(key.kind, &text), Origin::Default);
                }
                Fallback::Required(need) => self.errors.push(ConfigError::Missing {
                    file: file.to_owned(),
                    key: key.path,
                    need,
                }),
                Fallback::StateFolder => {
                    let xdg = env.get("XDG_STATE_HOME").filter(|dir| dir.starts_with('/'));
                    let folder = xdg.map_or("~/.local/state", String::as_str);
                    let text = format!("{}/shardrun", folder.trim_end_matches('/'));
                    self.set(key, &Raw::Text(text), Origin::Default);
                }
                Fallback::Absent(_) => {}
            }
        }
    }

    fn set(&mut self, key: &'static Key, raw: &Raw, origin: Origin) {
        match key.kind.check(raw) {
            Ok(value) => {
                self.settled.values.insert(key.path, (value, origin));
            }
            Err(refusal) => {
                self.settled.values.remove(key.path);
                self.settled.refused.push(key.path);
                self.errors.push(refused(key, raw, origin, refusal));
            }
        }
    }
}

fn refused(key: &'static Key, raw: &Raw, origin: Origin, refusal: Refusal) -> ConfigError {
    let takes = key.kind.takes();
    match refusal {
        Refusal::WrongType => {
            ConfigError::WrongType { origin, key: key.path, found: raw.found(), expected: takes }
        }
        Refusal::NotAllowed(why) => ConfigError::NotAllowed {
            origin,
            key: key.path,
            value: raw.written(),
            allowed: why.map_or(takes.clone(), |why| format!("{takes} ({why})")),
        },
    }
}

/// Makes paths absolute: `~` is the home folder, relative ones begin at the file's folder if the
/// file says them, else at the working directory.
fn absolute_paths(
    settled: &mut Settled,
    file: &Path,
    env: &HashMap<String, String>,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for key in KEYS {
        let Some((Value::Text(text), origin)) = settled.values.get_mut(key.path) else { continue };
        let is_path = match key.kind {
            Kind::Path => true,
            Kind::Source => !text.starts_with("pypi:"),
            _ => false,
        };
        if !is_path {
            continue;
        }
        let home = env.get("HOME").filter(|home| !home.is_empty());
        let path = match (text.strip_prefix('~'), home) {
            (Some(""), Some(home)) => PathBuf::from(home),
            (Some(rest), Some(home)) if rest.starts_with('/') => {
                Path::new(home).join(rest.trim_start_matches('/'))
            }
            (Some(rest), None) if rest.is_empty() || rest.starts_with('/') => {
                errors.push(ConfigError::NoHome { origin: origin.clone(), key: key.path });
                continue;
            }
            _ => match (&*origin, file.parent()) {
                (Origin::File(_), Some(folder)) => folder.join(&*text),
                _ => PathBuf::from(&*text),
            },
        };
        // Only a working directory that is gone makes this fail; then the path stays relative.
        let path = std::path::absolute(&path).unwrap_or(path);
        match path.into_os_string().into_string() {
            Ok(absolute) => *text = absolute,
            Err(path) => errors.push(ConfigError::NotUtf8 {
                origin: origin.clone(),
                key: key.path,
                path: path.into(),
            }),
        }
    }
    errors
}

fn assemble(settled: &Settled) -> Deployment {
    let mut root = toml::Table::new();
    for (path, (value, _)) in &settled.values {
        let value = match value {
            Value::Integer(n) => toml::Value::Integer(n.cast_signed()),
            Value::Integers(list) => {
                let numbers = list.iter().map(|n| toml::Value::Integer(n.cast_signed()));
                toml::Value::Array(numbers.collect())
            }
            Value::Bool(truth) => toml::Value::Boolean(*truth),
            Value::Text(text) => toml::Value::String(text.clone()),
        };
        match path.split_once('.') {
            None => {
                root.insert((*path).to_owned(), value);
            }
            Some((section, leaf)) => {
                let section = root.entry(section).or_insert_with(|| toml::Table::new().into());
                if let toml::Value::Table(section) = section {
                    section.insert(leaf.to_owned(), value);
                }
            }
        }
    }
    root.try_into().expect("a value that its key takes fits its field; a test tries each key")
}

fn settings(mut settled: Settled) -> Vec<Setting> {
    let setting = |key: &'static Key| match settled.values.remove(key.path) {
        Some((value, origin)) => Setting { key, value: Some(value), origin },
        None => Setting { key, value: None, origin: Origin::Default },
    };
    KEYS.iter().map(setting).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
