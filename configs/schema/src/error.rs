//! What can be wrong with a deployment.

use std::fmt;
use std::path::PathBuf;

use crate::{Origin, Position};

/// One thing wrong with a deployment, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("{}: cannot read the deployment file: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is too large to be a deployment file.
    #[error("{}: larger than {limit_bytes} bytes, so not a deployment file", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit.
        limit_bytes: u64,
    },
    /// The file is not TOML.
    #[error("{at}: not TOML: {message}")]
    Syntax {
        /// Where reading stopped.
        at: Position,
        /// The parser's words.
        message: String,
    },
    /// A key that no deployment has.
    #[error("{}: unknown key {key}{}", origin.lead(), did_you_mean(*nearest))]
    UnknownKey {
        /// Where it was found.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// The known key or section that it resembles.
        nearest: Option<&'static str>,
    },
    /// An environment variable that looks like a key's, but belongs to none.
    #[error("{name}: no key has this environment name{}", did_you_mean(nearest.as_deref()))]
    UnknownVariable {
        /// The variable.
        name: String,
        /// The known name that it resembles.
        nearest: Option<String>,
    },
    /// A value of the wrong type.
    #[error("{}: {key} is {found}; expected {expected}", origin.lead())]
    WrongType {
        /// Where it was set.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// What was found.
        found: String,
        /// What the key takes.
        expected: String,
    },
    /// A value of the right type that the key does not take.
    #[error("{}: {key} is {value}; allowed: {allowed}", origin.lead())]
    NotAllowed {
        /// Where it was set.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// The value.
        value: String,
        /// What the key takes.
        allowed: String,
    },
    /// A key that must be given, and is not.
    #[error("{}: {key} is missing: {need}", file.display())]
    Missing {
        /// The deployment file.
        file: PathBuf,
        /// The key, dotted.
        key: String,
        /// What to write there.
        need: &'static str,
    },
    /// Two values that don't go together.
    #[error("{0}")]
    Conflict(Box<Conflict>),
    /// A site file says what only a deployment can.
    #[error("{}: {key} belongs in the deployment file: a site file is for every deployment", origin.lead())]
    NotForSite {
        /// Where it was set.
        origin: Origin,
        /// The key, dotted.
        key: String,
    },
    /// Leader mode with more than it can serve.
    #[error("{}: mode = \"leader\" serves one instance of one model, and these are {instances}; \
             mode = \"orchestrator\" serves them all", origin.lead())]
    LeaderOfSeveral {
        /// Where the mode was set.
        origin: Origin,
        /// Instances of all models.
        instances: u64,
    },
    /// Sets of ids that don't fit the instances.
    #[error("{}: {key} is \"{value}\": {need}", origin.lead())]
    IdSets {
        /// Where it was set.
        origin: Origin,
        /// The key, dotted.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        need: String,
    },
    /// A path, once made absolute, is not UTF-8, which TOML cannot write.
    #[error("{}: {key}: the path {} is not UTF-8", origin.lead(), path.display())]
    NotUtf8 {
        /// Where it was set.
        origin: Origin,
        /// The key, dotted.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// No folder is known for a path that needs the home folder.
    #[error("{}: {key}: no home folder: HOME is not set; write an absolute path", origin.lead())]
    NoHome {
        /// Where the path was set.
        origin: Origin,
        /// The key, dotted.
        key: &'static str,
    },
    /// A resolved deployment cannot be written as TOML.
    #[error("the resolved deployment cannot be written as TOML: {0}")]
    Unwritable(#[from] toml::ser::Error),
}

/// Two values that don't go together; reads `key = value RULE other = other_value`.
#[derive(Debug)]
pub struct Conflict {
    /// The key that breaks the rule.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// Where it was set.
    pub origin: Origin,
    /// What the first must be to the second.
    pub rule: &'static str,
    /// The key that it is measured against.
    pub other: &'static str,
    /// Its value.
    pub other_value: String,
    /// Where that was set.
    pub other_origin: Origin,
}

impl Conflict {
    /// The one of the two that the user wrote: a default has no place that one could go to.
    fn leader(&self) -> &Origin {
        match self.origin {
            Origin::Default => &self.other_origin,
            _ => &self.origin,
        }
    }
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let leader = self.leader();
        let aside = |origin: &Origin| match origin == leader {
            true => String::new(),
            false => format!(" ({origin})"),
        };
        write!(
            f,
            "{}: {} = {}{} {} {} = {}{}",
            leader.lead(),
            self.key,
            self.value,
            aside(&self.origin),
            self.rule,
            self.other,
            self.other_value,
            aside(&self.other_origin),
        )
    }
}

impl ConfigError {
    /// Whether the command line, rather than the file or the environment, is at fault.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            ConfigError::UnknownKey { origin, .. }
            | ConfigError::WrongType { origin, .. }
            | ConfigError::NotAllowed { origin, .. }
            | ConfigError::NotUtf8 { origin, .. }
            | ConfigError::LeaderOfSeveral { origin, .. }
            | ConfigError::IdSets { origin, .. }
            | ConfigError::NoHome { origin, .. } => *origin == Origin::Flag,
            ConfigError::Conflict(conflict) => *conflict.leader() == Origin::Flag,
            _ => false,
        }
    }
}

/// Everything wrong with a deployment; never empty. Displays as one line an error.
#[derive(Debug)]
pub struct ConfigErrors(pub(crate) Vec<ConfigError>);

impl ConfigErrors {
    /// The errors, in the order of the layers that they were found in.
    #[must_use]
    pub fn errors(&self) -> &[ConfigError] {
        &self.0
    }

    /// Whether the command line is at fault for some of them.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        self.0.iter().any(ConfigError::is_usage)
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean {name}?"))
}
