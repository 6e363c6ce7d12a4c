//! The values of one model: of several layers, the last that sets a key decides.

use std::collections::HashMap;
use std::path::Path;

use crate::file::Entry;
use crate::keys::{Fallback, KEYS, Key};
use crate::kind::{Raw, Refusal, Value};
use crate::{ConfigError, Origin};

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

    /// A key's text; empty if it has none.
    pub(super) fn text(&self, key: &str) -> String {
        match self.value(key) {
            Some(Value::Text(text)) => text.clone(),
            _ => String::new(),
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.values.iter().map(|(path, (value, _))| (*path, value))
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut (Value, Origin)> {
        self.values.get_mut(key)
    }
}

/// Puts one value over another.
pub(super) struct Settle<'a> {
    pub(super) settled: Settled,
    pub(super) errors: &'a mut Vec<ConfigError>,
}

impl Settle<'_> {
    /// What a layer says to `model`; what it says to that one alone counts more.
    pub(super) fn layer(&mut self, entries: &[Entry], model: Option<&str>) {
        let shared = entries.iter().filter(|entry| entry.model.is_none());
        let own = entries.iter().filter(|entry| entry.model.is_some());
        for entry in shared.chain(own.filter(|entry| entry.model.as_deref() == model)) {
            self.set(entry.key, &entry.raw, entry.origin.clone());
        }
    }

    /// What holds where no layer said anything. `model` is the one that has a table of its own.
    pub(super) fn defaults(
        &mut self,
        file: &Path,
        model: Option<&str>,
        env: &HashMap<String, String>,
    ) {
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
                    key: key.path_of(model),
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
        Refusal::WrongType => ConfigError::WrongType {
            origin,
            key: key.path.into(),
            found: raw.found(),
            expected: takes,
        },
        Refusal::NotAllowed(why) => ConfigError::NotAllowed {
            origin,
            key: key.path.into(),
            value: raw.written(),
            allowed: why.map_or(takes.clone(), |why| format!("{takes} ({why})")),
        },
    }
}
