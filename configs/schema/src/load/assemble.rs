//! Settled values to a [`Deployment`].

use super::settle::Settled;
use crate::kind::Value;
use crate::{Deployment, Mode};

/// Sections that each model has for itself.
pub(super) const OF_A_MODEL: &[&str] = &["model", "kv_cache"];

/// One deployment of `models`, at least one, which are alike in all that models share.
pub(super) fn assemble(mode: Mode, models: &[(String, Settled)]) -> Deployment {
    let mut root = toml::Table::new();
    let (_, first) = models.first().expect("there is always a model");
    for (path, value) in first.values() {
        match path.split_once('.') {
            None => {
                root.insert(path.to_owned(), plain(value));
            }
            Some((section, _)) if OF_A_MODEL.contains(&section) => {}
            Some((section, leaf)) => insert(&mut root, section, leaf, value),
        }
    }
    root.insert("mode".to_owned(), mode.as_str().into());
    let tables = models.iter().map(|(name, settled)| (name.clone(), table(settled).into()));
    root.insert("models".to_owned(), tables.collect::<toml::Table>().into());
    root.try_into().expect("a value that its key takes fits its field; a test tries each key")
}

fn table(settled: &Settled) -> toml::Table {
    let mut table = toml::Table::new();
    for (path, value) in settled.values() {
        match path.split_once('.') {
            Some(("model", leaf)) => {
                table.insert(leaf.to_owned(), plain(value));
            }
            Some((section, leaf)) if OF_A_MODEL.contains(&section) => {
                insert(&mut table, section, leaf, value);
            }
            _ => {}
        }
    }
    table
}

fn insert(table: &mut toml::Table, section: &str, leaf: &str, value: &Value) {
    let section = table.entry(section).or_insert_with(|| toml::Table::new().into());
    if let toml::Value::Table(section) = section {
        section.insert(leaf.to_owned(), plain(value));
    }
}

fn plain(value: &Value) -> toml::Value {
    match value {
        Value::Integer(n) => toml::Value::Integer(n.cast_signed()),
        Value::Integers(list) => {
            let numbers = list.iter().map(|n| toml::Value::Integer(n.cast_signed()));
            toml::Value::Array(numbers.collect())
        }
        Value::Bool(truth) => toml::Value::Boolean(*truth),
        Value::Texts(list) => {
            toml::Value::Array(list.iter().map(|text| text.as_str().into()).collect())
        }
        Value::Text(text) => toml::Value::String(text.clone()),
    }
}
