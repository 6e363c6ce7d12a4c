//! What each layer says, in the order in which they count.

use std::collections::HashMap;
use std::path::Path;

use super::assemble::OF_A_MODEL;
use crate::file::{self, Entry, Layer};
use crate::keys::{self, KEYS, Key};
use crate::kind::Raw;
use crate::names::is_deployment_name;
use crate::{ConfigError, Origin};

/// What a site file says. What is a deployment's alone has no place there.
pub(super) fn site(path: &Path, text: &str, errors: &mut Vec<ConfigError>) -> Layer {
    let Layer { entries, models } = file::parse(path, text, errors);
    let (fitting, strange): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| {
        let section = entry.key.path.split_once('.').map_or("", |(section, _)| section);
        !section.is_empty() && !OF_A_MODEL.contains(&section)
    });
    let not_for_site = |entry: Entry| ConfigError::NotForSite {
        key: entry.key.path_of(entry.model.as_deref()),
        origin: entry.origin,
    };
    errors.extend(strange.into_iter().map(not_for_site));
    let not_for_site =
        |(name, origin)| ConfigError::NotForSite { key: format!("models.{name}"), origin };
    errors.extend(models.into_iter().map(not_for_site));
    Layer { entries: fitting, models: Vec::new() }
}

/// What variables say: a name that begins like a section's must be a key's.
pub(super) fn env(env: &HashMap<String, String>, errors: &mut Vec<ConfigError>) -> Layer {
    let entry = |key: &'static Key| {
        let name = key.env_name();
        let raw = Raw::from_text(key.kind, env.get(&name)?);
        Some(Entry { model: None, key, raw, origin: Origin::Env(name) })
    };
    let entries = KEYS.iter().filter_map(entry).collect();
    let stranger = |name: &String| {
        let path = keys::path_of_env(name)?;
        let nearest = keys::nearest(&path).and_then(keys::find).map(Key::env_name);
        let unknown = keys::find(&path).is_none();
        unknown.then(|| ConfigError::UnknownVariable { name: name.clone(), nearest })
    };
    let mut names: Vec<_> = env.keys().collect();
    names.sort_unstable();
    errors.extend(names.into_iter().filter_map(stranger));
    Layer { entries, models: Vec::new() }
}

/// What dotted paths on the command line say; `models.NAME.KEY` for one model.
pub(super) fn flags(flags: &[(String, String)], errors: &mut Vec<ConfigError>) -> Layer {
    let mut entries = Vec::new();
    let mut models = Vec::new();
    for (path, text) in flags {
        let found = match of_a_model(path) {
            Some((model, rest)) => keys::find_of_a_model(rest).map(|key| (Some(model), key)),
            None => keys::find(path).map(|key| (None, key)),
        };
        match found {
            Some((model, key)) => {
                let model = model.map(str::to_owned);
                models.extend(model.clone().map(|name| (name, Origin::Flag)));
                let raw = Raw::from_text(key.kind, text);
                entries.push(Entry { model, key, raw, origin: Origin::Flag });
            }
            None => errors.push(ConfigError::UnknownKey {
                origin: Origin::Flag,
                key: crate::kind::shortened(path),
                nearest: keys::nearest(path),
            }),
        }
    }
    Layer { entries, models }
}

fn of_a_model(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix("models.")?.split_once('.').filter(|(name, _)| is_deployment_name(name))
}
