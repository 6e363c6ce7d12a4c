//! Rules to outcomes.

use shardrun_config::keys::{self, Key};
use shardrun_config::{Kind, Value};

use super::draft::{ModelDraft, without_it};
use super::leaf::{Given, Leaf};
use super::number::{Number, truth};
use super::report::Outcome;
use super::rules::{Known, Rule};

/// Applies the rules of tables to the engine's parameters of files that end in `file`, in the order of
/// the tables. What is decided with other parameters stays open.
pub(crate) fn to_engine(draft: &mut ModelDraft, file: &str, tables: &[&[Known]]) {
    let known: Vec<_> = tables.iter().copied().flatten().collect();
    let rule_of = |(place, leaf): (usize, &Leaf)| {
        let path = leaf.plain_path();
        let open = leaf.outcome.is_none() && leaf.file.ends_with(file);
        Some((known.iter().position(|known| open && known.is(&path))?, place))
    };
    let mut matches: Vec<_> = draft.leaves.iter().enumerate().filter_map(rule_of).collect();
    matches.sort_unstable();
    for (rule, place) in matches {
        let rule = known[rule].rule;
        if let Some(outcome) = fixed(rule, &draft.leaves[place].given) {
            draft.leaves[place].decide(outcome);
        } else if let Err(outcome) = take(draft, place, rule) {
            draft.leaves[place].decide(outcome);
        }
    }
}

/// Applies the rules of tables to parameters of a model that is no engine's.
pub(crate) fn around(leaves: &mut [Leaf], tables: &[&[Known]]) {
    for leaf in leaves {
        let path = leaf.plain_path();
        let known = tables.iter().copied().flatten().find(|known| known.is(&path));
        if let Some(outcome) = known.and_then(|known| fixed(known.rule, &leaf.given)) {
            leaf.decide(outcome);
        }
    }
}

/// What a rule says that depends on this parameter alone, and sets nothing.
fn fixed(rule: Rule, given: &Given) -> Option<Outcome> {
    if matches!(rule, Rule::Served) {
        return None;
    }
    if given.is_unset() {
        let key = rule.key().filter(|_| !matches!(rule, Rule::Source(_)));
        let default = key.map(|key| format!("; {}", without_it(key)));
        return Some(Outcome::left(format!("not set{}", default.unwrap_or_default()), ""));
    }
    match rule {
        Rule::SoHere { values, so, else_ } => {
            let value = given.one().map(|value| value.trim().to_lowercase());
            let is_so =
                values.is_empty() || value.is_some_and(|value| values.contains(&value.as_str()));
            Some(match is_so {
                true => Outcome::SoHere { why: so.to_owned() },
                false => Outcome::left(else_.why, else_.instead),
            })
        }
        Rule::Nothing(without) => Some(Outcome::left(without.why, without.instead)),
        _ => None,
    }
}

/// Takes a parameter over into the draft; an error is why it isn't.
fn take(draft: &mut ModelDraft, place: usize, rule: Rule) -> Result<(), Outcome> {
    let given = &draft.leaves[place].given;
    let key = match rule.key().and_then(keys::find) {
        Some(key) => key,
        // It is decided elsewhere.
        None => return Ok(()),
    };
    let (value, why) = match rule {
        Rule::Number(_) => number(key, one(given)?)?,
        Rule::Bound(_) => bound(key, one(given)?)?,
        Rule::Micros(_) => milliseconds(key, one(given)?)?,
        Rule::Truth(_) => match truth(one(given)?) {
            Some(truth) => (Value::Bool(truth), None),
            None => return Err(no(key, "neither true nor false")),
        },
        Rule::Numbers(_) => numbers(key, given)?,
        Rule::Word(_, words) => {
            let given = one(given)?;
            match words.iter().find(|(word, _)| *word == given.trim()) {
                Some((_, word)) => (Value::Text((*word).to_owned()), None),
                None => return Err(no(key, "there is no word for it here")),
            }
        }
        Rule::BatchType => match one(given)?.trim() {
            "V1" | "v1" => (Value::Text("static_batch".to_owned()), None),
            "inflight_batching" | "inflight_fused_batching" => {
                return Err(Outcome::SoHere { why: "requests join those that run".to_owned() });
            }
            _ => return Err(no(key, "no type of batching that Triton knows")),
        },
        _ => return Ok(()),
    };
    draft.take(place, key.path, value, why);
    Ok(())
}

type Taken = Result<(Value, Option<String>), Outcome>;

fn one(given: &Given) -> Result<&str, Outcome> {
    given.one().ok_or_else(|| Outcome::left("one value was expected", ""))
}

fn no(key: &Key, why: &str) -> Outcome {
    Outcome::left(format!("{why}; {}", without_it(key.path)), "")
}

fn read(key: &Key, text: &str) -> Result<(u64, Option<String>), Outcome> {
    let number = Number::read(text).ok_or_else(|| no(key, "no number"))?;
    let value = u64::try_from(number.value()).map_err(|_| no(key, "below 0"))?;
    let why = match number {
        Number::Whole(_) => None,
        Number::Begins(_) => Some("Triton reads it as far as it is a number".to_owned()),
    };
    Ok((value, why))
}

fn number(key: &Key, text: &str) -> Taken {
    let (value, why) = read(key, text)?;
    match key.kind {
        Kind::Integer { min, max } => within(key, (min, max), value, why),
        Kind::PowerOfTwo { min, max } if value.is_power_of_two() => {
            within(key, (min, max), value, why)
        }
        _ => Err(no(key, &format!("{} takes {}", key.path, key.kind.takes()))),
    }
}

/// A value within the key's bounds. Where the key doesn't take 0, it meant something else there.
fn within(key: &Key, (min, max): (u64, u64), value: u64, why: Option<String>) -> Taken {
    if value == 0 && min > 0 {
        return Err(no(key, &format!("0 is no value of {}", key.path)));
    }
    let fitting = value.clamp(min, max);
    let why =
        if fitting == value { why } else { Some(format!("{} takes {min} to {max}", key.path)) };
    Ok((Value::Integer(fitting), why))
}

fn bound(key: &Key, text: &str) -> Taken {
    match (number(key, text), key.kind, Number::read(text).map(Number::value)) {
        (Err(_), Kind::Integer { max, .. }, Some(0)) => {
            Ok((Value::Integer(max), Some("0 is no bound; this is the largest here".into())))
        }
        (taken, ..) => taken,
    }
}

fn milliseconds(key: &Key, text: &str) -> Taken {
    let (micros, why) = read(key, text)?;
    let rounded = (micros % 1000 != 0).then(|| "rounded up to milliseconds".to_owned());
    let (min, max) = match key.kind {
        Kind::Integer { min, max } => (min, max),
        _ => (0, u64::MAX),
    };
    within(key, (min, max), micros.div_ceil(1000), why.or(rounded))
}

fn numbers(key: &Key, given: &Given) -> Taken {
    let Kind::Integers { max, most } = key.kind else { return Err(no(key, "no list")) };
    let texts: Vec<&str> = match given {
        Given::One(text) => text.split(',').collect(),
        Given::Many(texts) => texts.iter().map(String::as_str).collect(),
        Given::Unset(_) | Given::Parts(_) => return Err(no(key, "no list of numbers")),
    };
    let number = |text: &&str| match Number::read(text) {
        Some(Number::Whole(value)) => u64::try_from(value).ok().filter(|&value| value > 0),
        _ => None,
    };
    let list: Option<Vec<_>> = texts.iter().map(number).collect();
    let list = list.filter(|list| (1..=most).contains(&list.len()));
    let list = list.ok_or_else(|| no(key, &format!("{} takes {}", key.path, key.kind.takes())))?;
    let why = list.iter().any(|&value| value > max).then(|| format!("{max} is the largest here"));
    Ok((Value::Integers(list.into_iter().map(|value| value.min(max)).collect()), why))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::import::rules::{COMMON, ENGINE};

    fn outcome(path: &str, text: &str) -> Outcome {
        let leaf = Leaf::new("m/config.pbtxt", path, Given::text(text));
        let mut draft = ModelDraft::new("m", None, vec![leaf]);
        to_engine(&mut draft, "config.pbtxt", &[ENGINE, COMMON]);
        draft.leaves[0].outcome.clone().unwrap_or(Outcome::Unknown)
    }

    /// The new value, and why it is another.
    fn new(path: &str, text: &str) -> (String, Option<String>) {
        match outcome(path, text) {
            Outcome::Taken { new } => (new.told(), None),
            Outcome::Changed { new, why } => (new.told(), Some(why)),
            other => panic!("{path} = {text}: {other:?}"),
        }
    }

    fn why(path: &str, text: &str) -> String {
        match outcome(path, text) {
            Outcome::Left { why, .. } => why,
            other => panic!("{path} = {text}: {other:?}"),
        }
    }

    const QUEUE: &str = "dynamic_batching.default_queue_policy.max_queue_size";
    const TIMEOUT: &str = "dynamic_batching.default_queue_policy.default_timeout_microseconds";

    #[test]
    fn values_that_keys_take_are_taken_over() {
        for (path, text, told) in [
            ("max_batch_size", "64", "model.max_batch_size = 64"),
            (QUEUE, "100", "model.max_queue_size = 100"),
            (TIMEOUT, "2000000", "model.queue_timeout_ms = 2000"),
            ("parameters.max_tokens_in_paged_kv_cache", "4096", "kv_cache.max_tokens = 4096"),
            (
                "parameters.max_attention_window_size",
                "512, 64",
                "kv_cache.max_attention_window = [512, 64]",
            ),
            ("parameters.enable_kv_cache_reuse", "False", "kv_cache.enable_block_reuse = false"),
            ("parameters.gpt_model_type", "V1", "model.batch_scheduler_policy = \"static_batch\""),
            (
                "parameters.batch_scheduler_policy",
                "max_utilization",
                "model.batch_scheduler_policy = \"max_utilization\"",
            ),
            (
                "parameters.request_stats_max_iterations",
                "0",
                "metrics.request_stats_max_iterations = 0",
            ),
        ] {
            assert_eq!(new(path, text), (told.to_owned(), None), "{path}");
        }
    }

    #[test]
    fn values_beyond_a_keys_bounds_are_changed() {
        for (path, text, told, why) in [
            (
                "max_batch_size",
                "10000",
                "model.max_batch_size = 4096",
                "model.max_batch_size takes 1 to 4096",
            ),
            (
                QUEUE,
                "0",
                "model.max_queue_size = 1048576",
                "0 is no bound; this is the largest here",
            ),
            (TIMEOUT, "1500", "model.queue_timeout_ms = 2", "rounded up to milliseconds"),
            (
                "parameters.max_beam_width",
                "4 beams",
                "model.max_beam_width = 4",
                "Triton reads it as far as it is a number",
            ),
            (
                "parameters.max_tokens_in_paged_kv_cache",
                "3",
                "kv_cache.max_tokens = 8",
                "kv_cache.max_tokens takes 8 to 4294967296",
            ),
        ] {
            assert_eq!(new(path, text), (told.to_owned(), Some(why.to_owned())), "{path}");
        }
    }

    #[test]
    fn values_that_mean_nothing_here_are_left() {
        for (path, text, says) in [
            (
                "max_batch_size",
                "0",
                "0 is no value of model.max_batch_size; model.max_batch_size is 32 here",
            ),
            (QUEUE, "-1", "below 0; model.max_queue_size is 1024 here"),
            (
                "parameters.max_beam_width",
                "many",
                "no number; model.max_beam_width is 8 here, or model.max_batch_size",
            ),
            (
                "parameters.enable_kv_cache_reuse",
                "yes",
                "neither true nor false; kv_cache.enable_block_reuse is true here",
            ),
            (
                "parameters.max_tokens_in_paged_kv_cache",
                "${max_tokens_in_paged_kv_cache}",
                "not set; kv_cache.max_tokens is 32768 here",
            ),
            (
                "parameters.gpt_model_type",
                "V2",
                "no type of batching that Triton knows; \
                model.batch_scheduler_policy is guaranteed_no_evict here",
            ),
            ("parameters.lora_prefetch_dir", "/l", "there are no adapters here"),
        ] {
            assert_eq!(why(path, text), says, "{path}");
        }
        assert!(
            why("parameters.max_attention_window_size", "a,b").contains("takes 1 to 1024 integers")
        );
        assert_eq!(outcome("parameters.my_own", "1"), Outcome::Unknown);
    }

    #[test]
    fn what_is_so_here_says_so() {
        let so = |path, text| matches!(outcome(path, text), Outcome::SoHere { .. });
        assert!(so("parameters.gpt_model_type", "inflight_fused_batching"));
        assert!(so("parameters.enable_chunked_context", "True"));
        assert!(!so("parameters.enable_chunked_context", "false"));
        assert!(so("dynamic_batching.max_queue_delay_microseconds", "100"));
    }
}
