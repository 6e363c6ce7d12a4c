//! Every key of a deployment file, once, and how a key is found by its names.

mod table;

use crate::kind::Kind;

pub use table::{KEYS, SECTIONS};

/// A key of the deployment file.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Dotted path; also what `--set` takes.
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What holds if nobody sets it.
    pub fallback: Fallback,
    /// What it means, in one line.
    pub doc: &'static str,
}

/// What holds if nobody sets a key.
#[derive(Debug, Clone, Copy)]
pub enum Fallback {
    /// Nothing does: it must be set; says how.
    Required(&'static str),
    /// This value, written as a flag would.
    Is(&'static str),
    /// This number, or that of another key, which stands above, if it is less.
    AtMost(u64, &'static str),
    /// No value; says what then happens.
    Absent(&'static str),
    /// `shardrun` below the user's folder for state.
    StateFolder,
}

impl Key {
    /// The environment variable that sets the key: `SHARDRUN_` and the path in capitals, with
    /// `_` for dots.
    #[must_use]
    pub fn env_name(&self) -> String {
        env_form(self.path)
    }

    /// The dotted path of a key of `model`'s own table, if it has one: `models.NAME.tp_size` for
    /// `model.tp_size`, `models.NAME.kv_cache.dtype` for `kv_cache.dtype`.
    #[must_use]
    pub fn path_of(&self, model: Option<&str>) -> String {
        match (model, self.path.strip_prefix("model.")) {
            (Some(model), Some(leaf)) => format!("models.{model}.{leaf}"),
            (Some(model), None) if self.path.starts_with("kv_cache.") => {
                format!("models.{model}.{}", self.path)
            }
            _ => self.path.to_owned(),
        }
    }
}

fn env_form(path: &str) -> String {
    format!("SHARDRUN_{}", path.to_ascii_uppercase().replace('.', "_"))
}

/// The key of this dotted path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The key that a model's own table has by this path: `tp_size`, or `kv_cache.dtype`.
pub(crate) fn find_of_a_model(path: &str) -> Option<&'static Key> {
    match path.split_once('.') {
        None => find(&format!("model.{path}")),
        Some(("kv_cache", _)) => find(path),
        Some(_) => None,
    }
}

/// Names of the environment variables that set keys. A launcher takes them out of the
/// environment of processes that read the resolved deployment, where they have had their effect.
pub fn env_names() -> impl Iterator<Item = String> {
    KEYS.iter().map(Key::env_name)
}

/// The path that an environment variable claims, if it claims to belong to a section.
pub(crate) fn path_of_env(name: &str) -> Option<String> {
    SECTIONS.iter().find_map(|(section, _)| {
        let leaf = name.strip_prefix(env_form(section).as_str())?.strip_prefix('_')?;
        Some(format!("{section}.{}", leaf.to_ascii_lowercase()))
    })
}

/// The key or section that an unknown path resembles most, if it resembles any.
pub(crate) fn nearest(path: &str) -> Option<&'static str> {
    const RESEMBLES: f64 = 0.6;
    let wanted = split(path);
    let score = |candidate: &'static str| {
        let (section, leaf) = split(candidate);
        let alike = match leaf.split('_').any(|word| word == wanted.1) {
            true => 0.9,
            false => strsim::normalized_damerau_levenshtein(wanted.1, leaf),
        };
        // A key in the wrong section is a little less likely than a misspelt one.
        let score = if section == wanted.0 { alike } else { 0.95 * alike };
        (score, candidate)
    };
    let candidates = SECTIONS.iter().map(|(name, _)| *name).chain(KEYS.iter().map(|key| key.path));
    let mut best = (RESEMBLES, None);
    for (score, name) in candidates.map(score) {
        if score > best.0 {
            best = (score, Some(name));
        }
    }
    best.1
}

fn split(path: &str) -> (Option<&str>, &str) {
    match path.rsplit_once('.') {
        Some((section, leaf)) => (Some(section), leaf),
        None => (None, path),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kind::Raw;

    #[test]
    fn every_default_is_allowed() {
        for key in KEYS {
            let text = match key.fallback {
                Fallback::Is(text) => text.to_owned(),
                Fallback::AtMost(number, _) => number.to_string(),
                _ => continue,
            };
            let raw = Raw::from_text(key.kind, &text);
            assert!(key.kind.check(&raw).is_ok(), "{} = {text}", key.path);
        }
    }

    #[test]
    fn what_bounds_a_default_is_a_number_that_stands_above_it() {
        for (place, key) in KEYS.iter().enumerate() {
            let Fallback::AtMost(_, other) = key.fallback else { continue };
            let bound = KEYS[..place].iter().find(|key| key.path == other).unwrap();
            let (Kind::Integer { min, .. }, Kind::Integer { min: least, .. }) =
                (key.kind, bound.kind)
            else {
                panic!("{} is bounded by {other}", key.path);
            };
            assert!(min <= least, "{} cannot be as little as {other}", key.path);
        }
    }

    #[test]
    fn paths_and_environment_names_are_unique_and_in_known_sections() {
        let mut paths: Vec<_> = KEYS.iter().map(|key| key.path).collect();
        let mut names: Vec<_> = env_names().collect();
        paths.sort_unstable();
        paths.dedup();
        names.sort_unstable();
        names.dedup();
        assert_eq!((paths.len(), names.len()), (KEYS.len(), KEYS.len()));
        for (section, _) in KEYS.iter().filter_map(|key| key.path.split_once('.')) {
            assert!(SECTIONS.iter().any(|(name, _)| *name == section), "{section}");
        }
    }

    #[test]
    fn environment_names_follow_the_path() {
        assert_eq!(find("model.tp_size").unwrap().env_name(), "SHARDRUN_MODEL_TP_SIZE");
        let claimed = path_of_env("SHARDRUN_KV_CACHE_MAX_TOKEN");
        assert_eq!(claimed.as_deref(), Some("kv_cache.max_token"));
        assert_eq!(path_of_env("SHARDRUN_CACHE"), None);
        assert_eq!(path_of_env("SHARDRUN_MODELS"), None);
    }

    #[test]
    fn misspelt_names_find_their_key() {
        assert_eq!(nearest("model.tp_sise"), Some("model.tp_size"));
        assert_eq!(nearest("tp_size"), Some("model.tp_size"));
        assert_eq!(nearest("server.threads"), Some("model.threads"));
        assert_eq!(nearest("modle"), Some("model"));
        assert_eq!(nearest("zzzzzz"), None);
        assert_eq!(nearest("model.tp"), Some("model.tp_size"));
        assert_eq!(nearest("server.metrics"), Some("server.metrics_port"));
    }
}
