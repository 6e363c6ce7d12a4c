//! The deployment that comes about: keys with their values and where these are from.

use std::collections::BTreeMap;

use shardrun_config::keys::{self, Fallback};
use shardrun_config::{ModelSource, Value};

use super::leaf::Leaf;
use super::report::{New, Outcome};

/// A model of the deployment.
#[derive(Debug)]
pub(crate) struct ModelDraft {
    /// The folder of the engine's model.
    pub(crate) folder: String,
    /// The name of the model's own table; `None` for the only one, in `[model]`.
    pub(crate) table: Option<String>,
    /// Keys that have a value.
    pub(crate) settings: BTreeMap<&'static str, Setting>,
    /// Where the model's file is, as far as it is known.
    pub(crate) source: Option<ModelSource>,
    /// What the engine's model says.
    pub(crate) leaves: Vec<Leaf>,
    /// What the user should know.
    pub(crate) notes: Vec<String>,
}

/// A key's value.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) value: Value,
    /// The parameter that it is from, a place in the model's leaves.
    pub(crate) leaf: Option<usize>,
    /// What is written above it.
    pub(crate) comment: Option<String>,
}

impl ModelDraft {
    pub(crate) fn new(folder: &str, table: Option<String>, leaves: Vec<Leaf>) -> Self {
        let folder = folder.to_owned();
        let (settings, notes) = (BTreeMap::new(), Vec::new());
        Self { folder, table, settings, source: None, leaves, notes }
    }

    /// A key's path in the file that is written.
    pub(crate) fn path_of(&self, key: &str) -> String {
        keys::find(key).map_or_else(|| key.to_owned(), |key| key.path_of(self.table.as_deref()))
    }

    pub(crate) fn new_of(&self, key: &str, value: &Value) -> New {
        New { key: Some(self.path_of(key)), value: value.to_string() }
    }

    /// Takes a value over from a parameter; `why` if it is another than there. Of two parameters for
    /// one key the first counts.
    pub(crate) fn take(
        &mut self,
        leaf: usize,
        key: &'static str,
        value: Value,
        why: Option<String>,
    ) {
        if let Some(earlier) = self.settings.get(key).and_then(|setting| setting.leaf) {
            let earlier = &self.leaves[earlier];
            let why = format!("{} of {} counts", earlier.path, earlier.file);
            return self.leaves[leaf].decide(Outcome::left(why, ""));
        }
        let new = self.new_of(key, &value);
        let comment = why.as_ref().map(|why| self.was(leaf, why));
        self.leaves[leaf].decide(match why {
            None => Outcome::Taken { new },
            Some(why) => Outcome::Changed { new, why },
        });
        self.settings.insert(key, Setting { value, leaf: Some(leaf), comment });
    }

    /// Changes a value, or the default, to one that goes with the others.
    pub(crate) fn adjust(&mut self, key: &'static str, value: Value, why: &str) {
        let leaf = self.settings.get(key).and_then(|setting| setting.leaf);
        let new = self.new_of(key, &value);
        let comment = match leaf {
            Some(leaf) => {
                let comment = self.was(leaf, why);
                let why = why.to_owned();
                self.leaves[leaf].outcome = Some(Outcome::Changed { new, why });
                comment
            }
            None => {
                self.notes.push(format!("{}: {why}", new.told()));
                why.to_owned()
            }
        };
        self.settings.insert(key, Setting { value, leaf, comment: Some(comment) });
    }

    fn was(&self, leaf: usize, why: &str) -> String {
        let leaf = &self.leaves[leaf];
        format!("{} = {} there: {why}", leaf.path, leaf.given)
    }

    /// The number of a key: its value, or its default.
    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        match (self.settings.get(key).map(|setting| &setting.value), default(key)) {
            (Some(Value::Integer(value)), _) => Some(*value),
            (None, Some(default)) => default.parse().ok(),
            _ => None,
        }
    }

    /// Makes values keep the rules between keys, which the reference has differently or not at all.
    pub(crate) fn keep_rules(&mut self) {
        let set = |draft: &Self, key: &str| draft.settings.contains_key(key);
        let number = |draft: &Self, key: &str| draft.number(key).unwrap_or_default();
        if set(self, "model.max_beam_width") {
            let beams = number(self, "model.max_beam_width");
            if beams > number(self, "model.max_batch_size") {
                let why =
                    "each beam is a sequence here, and a request needs room for all its beams";
                self.adjust("model.max_batch_size", Value::Integer(beams), why);
            }
        }
        let sequences = number(self, "model.max_batch_size");
        if number(self, "model.max_num_tokens") < sequences {
            let why = "an iteration has a token for each sequence of model.max_batch_size at least";
            self.adjust("model.max_num_tokens", Value::Integer(sequences), why);
        }
        let block = number(self, "kv_cache.tokens_per_block");
        if number(self, "kv_cache.max_tokens") < block {
            let why = "the cache holds one block at least";
            self.adjust("kv_cache.max_tokens", Value::Integer(block), why);
        }
        if let Some(longest) = self.number("model.max_seq_len") {
            let cache = number(self, "kv_cache.max_tokens");
            if longest > cache && set(self, "kv_cache.max_tokens") {
                let why = "a longer sequence would not fit into kv_cache.max_tokens";
                self.adjust("model.max_seq_len", Value::Integer(cache), why);
            } else if longest > cache {
                let why = "the cache holds one sequence of model.max_seq_len at least";
                self.adjust("kv_cache.max_tokens", Value::Integer(longest), why);
            }
        }
    }
}

/// A key's default, as a file has it.
pub(crate) fn default(key: &str) -> Option<&'static str> {
    match keys::find(key)?.fallback {
        Fallback::Is(value) => Some(value),
        _ => None,
    }
}

/// What holds for a key that is not set, in words.
pub(crate) fn without_it(key: &str) -> String {
    match keys::find(key).map(|key| key.fallback) {
        Some(Fallback::Is(value)) => format!("{key} is {value} here"),
        Some(Fallback::AtMost(value, other)) => format!("{key} is {value} here, or {other}"),
        Some(Fallback::Absent(what)) => format!("{key}: {}", what.replace('`', "")),
        Some(Fallback::Required(_)) => format!("{key} is to be filled in"),
        Some(Fallback::StateFolder) | None => format!("{key} has its default"),
    }
}

/// Keys of the whole deployment that the repository has for each model: the largest holds for all.
/// Gives them with their comments.
pub(crate) fn shared(models: &mut [ModelDraft]) -> BTreeMap<&'static str, Setting> {
    let mut shared: BTreeMap<&'static str, Setting> = BTreeMap::new();
    let is_shared = |key: &str| !key.starts_with("model.") && !key.starts_with("kv_cache.");
    for model in models.iter() {
        for (key, setting) in model.settings.iter().filter(|(key, _)| is_shared(key)) {
            let most = shared.get(key).map(|most| number_of(&most.value));
            if most.is_none_or(|most| number_of(&setting.value) > most) {
                shared.insert(key, setting.clone());
            }
        }
    }
    for (key, setting) in &mut shared {
        let why = "it is one for all models here: the largest of them";
        for model in models.iter_mut() {
            let Some(own) = model.settings.remove(key) else { continue };
            if own.value == setting.value {
                continue;
            }
            setting.comment.get_or_insert_with(|| why.to_owned());
            let new = model.new_of(key, &setting.value);
            if let Some(leaf) = own.leaf {
                let why = why.to_owned();
                model.leaves[leaf].outcome = Some(Outcome::Changed { new, why });
            }
        }
    }
    shared
}

fn number_of(value: &Value) -> u64 {
    match value {
        Value::Integer(number) => *number,
        _ => 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::import::leaf::Given;

    fn draft(values: &[(&'static str, u64)]) -> ModelDraft {
        let leaf =
            |(key, value): &(&str, u64)| Leaf::new("f", *key, Given::text(&value.to_string()));
        let mut draft = ModelDraft::new("m", None, values.iter().map(leaf).collect());
        for (leaf, (key, value)) in values.iter().enumerate() {
            draft.take(leaf, key, Value::Integer(*value), None);
        }
        draft
    }

    fn kept(values: &[(&'static str, u64)]) -> Vec<(&'static str, u64)> {
        let mut draft = draft(values);
        draft.keep_rules();
        draft.settings.iter().map(|(key, setting)| (*key, number_of(&setting.value))).collect()
    }

    #[test]
    fn values_that_go_together_stay() {
        let values = [("kv_cache.max_tokens", 4096), ("model.max_batch_size", 8)];
        assert_eq!(kept(&values), values);
    }

    #[test]
    fn values_that_do_not_are_adjusted() {
        assert_eq!(
            kept(&[("model.max_beam_width", 16), ("model.max_batch_size", 4)]),
            [("model.max_batch_size", 16), ("model.max_beam_width", 16)]
        );
        assert_eq!(
            kept(&[("model.max_batch_size", 600)]),
            [("model.max_batch_size", 600), ("model.max_num_tokens", 600)]
        );
        assert_eq!(kept(&[("kv_cache.max_tokens", 9)]), [("kv_cache.max_tokens", 32)]);
        assert_eq!(
            kept(&[("kv_cache.max_tokens", 100), ("model.max_seq_len", 200)]),
            [("kv_cache.max_tokens", 100), ("model.max_seq_len", 100)]
        );
        assert_eq!(
            kept(&[("model.max_seq_len", 65536)]),
            [("kv_cache.max_tokens", 65536), ("model.max_seq_len", 65536)]
        );
    }

    #[test]
    fn an_adjusted_value_is_told_as_changed() {
        let mut draft = draft(&[("kv_cache.max_tokens", 9)]);
        draft.keep_rules();
        assert!(matches!(draft.leaves[0].outcome, Some(Outcome::Changed { .. })));
        assert!(draft.notes.is_empty());
        assert!(
            draft.settings["kv_cache.max_tokens"].comment.as_ref().unwrap().contains("= 9 there")
        );
    }

    #[test]
    fn the_first_of_two_parameters_counts() {
        let mut draft = draft(&[("model.max_batch_size", 4), ("model.max_num_tokens", 64)]);
        draft.leaves[1].outcome = None;
        draft.take(1, "model.max_batch_size", Value::Integer(9), None);
        assert_eq!(draft.number("model.max_batch_size"), Some(4));
        assert_eq!(
            draft.leaves[1].outcome,
            Some(Outcome::left("model.max_batch_size of f counts", ""))
        );
    }

    #[test]
    fn what_models_share_is_the_largest_of_theirs() {
        let key = "metrics.iter_stats_max_iterations";
        let mut models = [draft(&[(key, 10)]), draft(&[(key, 30)]), draft(&[])];
        let shared = shared(&mut models);
        assert_eq!(shared[key].value, Value::Integer(30));
        assert!(shared[key].comment.is_some());
        assert!(matches!(models[0].leaves[0].outcome, Some(Outcome::Changed { .. })));
        assert!(matches!(models[1].leaves[0].outcome, Some(Outcome::Taken { .. })));
        assert!(models.iter().all(|model| model.settings.is_empty()));
    }
}
