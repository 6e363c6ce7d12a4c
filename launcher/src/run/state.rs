//! How a run is doing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use shardrun_slurm::JobId;

use crate::clock::now_unix_s;
use crate::supervisor::InstanceState;

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) stage: RunStage,
    /// Seconds since 1970: when the stage began.
    pub(crate) since: u64,
    /// The node of the supervisor.
    pub(crate) host: String,
    /// The supervisor's process.
    pub(crate) pid: u32,
    /// The Slurm job that the supervisor is in.
    #[serde(default)]
    pub(crate) job: Option<String>,
    /// How often the job was started before.
    pub(crate) restarts: u32,
    /// Where it serves, once it does.
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) instances: Vec<InstanceState>,
    /// How it ended, once it has.
    pub(crate) ended: Option<Ended>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RunStage {
    Starting,
    Serving,
    Draining,
    Ended,
}

impl RunStage {
    /// Its word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Ended => "ended",
        }
    }
}

/// Where a run serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Endpoint {
    /// The node.
    pub(crate) host: String,
    /// `address:port` of the API, as bound.
    pub(crate) http: String,
    /// `address:port` of the metrics, as bound.
    pub(crate) metrics: String,
    /// Names that clients use, the default model's first.
    pub(crate) models: Vec<String>,
}

impl Endpoint {
    /// The API's address for people: one that stands for all addresses of its node as the node's name.
    pub(crate) fn shown(&self) -> String {
        match self.http.parse::<SocketAddr>() {
            Ok(http) if http.ip().is_unspecified() => format!("{}:{}", self.host, http.port()),
            _ => format!("{} on {}", self.http, self.host),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The exit code of the supervisor.
    pub(crate) code: u8,
    /// Why, if it was not asked to.
    pub(crate) message: Option<String>,
}

impl RunState {
    /// A run's state; `None` if it was not started yet.
    pub(crate) fn read(dir: &Path) -> anyhow::Result<Option<Self>> {
        super::read(&dir.join(StateFile::NAME))
    }

    /// When it was written last, in seconds since 1970.
    pub(crate) fn written_at(dir: &Path) -> u64 {
        let modified = dir.join(StateFile::NAME).metadata().and_then(|meta| meta.modified());
        let since = modified.ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        since.unwrap_or_default().as_secs()
    }
}

/// Keeps `state.json` true.
#[derive(Debug)]
pub(crate) struct StateFile {
    path: PathBuf,
    state: RunState,
}

impl StateFile {
    const NAME: &str = "state.json";

    /// A run that begins now, in this process.
    pub(crate) fn begin(
        dir: &Path,
        host: String,
        job: Option<&JobId>,
        restarts: u32,
    ) -> anyhow::Result<Self> {
        let state = RunState {
            stage: RunStage::Starting,
            since: now_unix_s(),
            host,
            pid: std::process::id(),
            job: job.map(ToString::to_string),
            restarts,
            endpoint: None,
            instances: Vec::new(),
            ended: None,
        };
        let file = Self { path: dir.join(Self::NAME), state };
        super::replace(&file.path, &file.state)?;
        Ok(file)
    }

    /// Writes what `change` makes of it, if that differs. A disk that is full for a while is no reason to
    /// stop serving: what can't be written now is written with the next change.
    pub(crate) fn update(&mut self, change: impl FnOnce(&mut RunState)) {
        let mut changed = self.state.clone();
        change(&mut changed);
        if changed.stage != self.state.stage {
            changed.since = now_unix_s();
        }
        if changed != self.state && super::replace(&self.path, &changed).is_ok() {
            self.state = changed;
        }
    }
}
