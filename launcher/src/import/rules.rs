//! What is to be done with each parameter that is known, as tables.

mod around;
mod common;
mod engine;
mod llmapi;

pub(crate) use around::{AROUND, INNER};
pub(crate) use common::COMMON;
pub(crate) use engine::{BUILT, ENGINE};
pub(crate) use llmapi::{LLMAPI, LLMAPI_CONFIG};

/// A known parameter: its path without numbers, or the beginning of several with a `*`.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
}

/// What is to be done with a parameter. Keys are those of the deployment file.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// The key takes the same number.
    Number(&'static str),
    /// The key takes the same number; 0 means that there is no bound.
    Bound(&'static str),
    /// Microseconds, of which the key takes milliseconds.
    Micros(&'static str),
    /// The key takes the same truth value.
    Truth(&'static str),
    /// The key takes the same list of numbers.
    Numbers(&'static str),
    /// The key takes another word for it.
    Word(&'static str, &'static [(&'static str, &'static str)]),
    /// Static batching is a policy here, and batches in flight are the rule.
    BatchType,
    /// Names what can't be loaded here; says why. `model.source` stands for it.
    Source(&'static str),
    /// Decided with the other parameters of ranks and instances.
    Placement,
    /// What clients call the model; decided with the other models.
    Served,
    /// Some values, in lower case, say what holds here anyway; all others are not taken over.
    SoHere { values: &'static [&'static str], so: &'static str, else_: Without },
    /// Nothing here is like it.
    Nothing(Without),
}

/// Why a parameter is not taken over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Without {
    pub(crate) why: &'static str,
    /// What to do instead; may be empty.
    pub(crate) instead: &'static str,
}

const TRUE: &[&str] = &["true", "1", "t"];
const FALSE: &[&str] = &["false", "0", "f"];
const ANY: &[&str] = &[];

const fn known(path: &'static str, rule: Rule) -> Known {
    Known { path, rule }
}

const fn without(why: &'static str, instead: &'static str) -> Without {
    Without { why, instead }
}

/// Holds here whatever the value.
const fn so(why: &'static str) -> Rule {
    Rule::SoHere { values: ANY, so: why, else_: without("", "") }
}

const fn so_if(values: &'static [&'static str], so: &'static str, else_: Without) -> Rule {
    Rule::SoHere { values, so, else_ }
}

const fn nothing(why: &'static str, instead: &'static str) -> Rule {
    Rule::Nothing(without(why, instead))
}

impl Known {
    /// Whether this is the parameter at `path`.
    pub(crate) fn is(&self, path: &str) -> bool {
        match self.path.strip_suffix('*') {
            Some(begin) => path.starts_with(begin),
            None => path == self.path,
        }
    }
}

impl Rule {
    /// The key that the rule sets.
    pub(crate) fn key(self) -> Option<&'static str> {
        match self {
            Rule::Number(key)
            | Rule::Bound(key)
            | Rule::Micros(key)
            | Rule::Truth(key)
            | Rule::Numbers(key)
            | Rule::Word(key, _) => Some(key),
            Rule::BatchType => Some("model.batch_scheduler_policy"),
            Rule::Source(_) => Some("model.source"),
            Rule::Placement | Rule::Served | Rule::SoHere { .. } | Rule::Nothing(_) => None,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TABLES: [&[Known]; 7] = [ENGINE, BUILT, LLMAPI_CONFIG, LLMAPI, INNER, AROUND, COMMON];

    #[test]
    fn rules_name_keys_that_exist_and_words_that_they_take() {
        for known in TABLES.into_iter().flatten() {
            let Some(key) = known.rule.key() else { continue };
            let key = shardrun_config::keys::find(key).unwrap();
            if let Rule::Word(_, words) = known.rule {
                for (_, word) in words {
                    assert!(key.kind.takes().contains(&format!("\"{word}\"")), "{word}");
                }
            }
        }
    }

    #[test]
    fn no_rule_hides_behind_another() {
        for table in TABLES {
            for (place, known) in table.iter().enumerate() {
                let path = known.path.trim_end_matches('*');
                let hides = table[..place].iter().find(|earlier| earlier.is(path));
                assert!(hides.is_none(), "{} hides {}", hides.unwrap().path, known.path);
            }
        }
    }

    #[test]
    fn the_guide_names_every_parameter_of_the_engine() {
        let guide = include_str!("../../../docs/from-triton.md");
        for known in ENGINE {
            let Some(name) = known.path.strip_prefix("parameters.") else { continue };
            assert!(guide.contains(&format!("`{name}`")), "docs/from-triton.md lacks {name}");
        }
    }
}
