//! A deployment before it is started: its file, in a folder of its own, and how it will be started.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context as _;
use serde_json::Value;
use tempfile::TempDir;

use crate::deployment::{Deployment, Start};
use crate::leftovers::Leftovers;
use crate::programs::{mpirun, program};
use crate::sharing::turn;
use crate::spawn::spawn;

/// A deployment that has not been started.
#[derive(Debug)]
pub struct Setup {
    folder: TempDir,
    keys: BTreeMap<String, Value>,
    variables: Vec<(String, String)>,
}

impl Setup {
    /// Two ranks of `model` with one thread each, on any free ports.
    ///
    /// # Errors
    /// If its folder can't be made.
    pub fn new(model: &Path) -> anyhow::Result<Self> {
        // A short path: the name of a Unix socket in it has some 100 bytes.
        let folder = tempfile::Builder::new()
            .prefix("shardrun-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in("/tmp")
            .context("cannot make a folder for a deployment")?;
        let run_dir = folder.path().join("runs").display().to_string();
        let setup = Self { folder, keys: BTreeMap::new(), variables: Vec::new() }
            .set("name", "t")
            .set("model.source", model.display().to_string())
            .set("model.tp_size", 2)
            .set("model.threads", 1)
            .set("kv_cache.max_tokens", 4096)
            .set("server.http_port", 0)
            .set("server.metrics_port", 0)
            .set("run.dir", run_dir);
        Ok(setup)
    }

    /// Sets a key of the deployment file.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.keys.insert(key.to_owned(), value.into());
        self
    }

    /// Computes in float32 alone, as the reference that golden tokens and logits come from.
    #[must_use]
    pub fn exact(self) -> Self {
        self.set("model.activations", "f32").set("kv_cache.dtype", "f32")
    }

    /// Sets a variable of the environment of what is started.
    #[must_use]
    pub fn variable(mut self, name: &str, value: impl Into<String>) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// The folder that all files of the deployment are in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts `shardrun serve`.
    ///
    /// # Errors
    /// If a file or the process can't be made.
    pub fn serve(self) -> anyhow::Result<Deployment> {
        let turn = turn();
        let file = self.write()?;
        let mut command = Command::new(program("shardrun")?);
        command.arg("serve").arg(file);
        self.start(command, turn)
    }

    /// Starts `mpirun -n RANKS shardrun-worker`.
    ///
    /// # Errors
    /// As [`Setup::serve`].
    pub fn by_hand(self, ranks: usize) -> anyhow::Result<Deployment> {
        let turn = turn();
        let file = self.write()?;
        let words = mpirun(ranks);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(program("shardrun-worker")?).arg("--config").arg(file);
        self.start(command, turn)
    }

    /// Starts one worker, without any MPI launcher.
    ///
    /// # Errors
    /// As [`Setup::serve`].
    pub fn worker_alone(self) -> anyhow::Result<Deployment> {
        let turn = turn();
        let file = self.write()?;
        let mut command = Command::new(program("shardrun-worker")?);
        command.arg("--config").arg(file);
        self.start(command, turn)
    }

    fn start(self, mut command: Command, turn: crate::sharing::Turn) -> anyhow::Result<Deployment> {
        let folder = self.folder.path();
        // Open MPI keeps a session folder there.
        let temporary = folder.join("tmp");
        fs::create_dir(&temporary)?;
        let file = |name: &str| File::create(folder.join(name)).map(Stdio::from);
        command
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(file("stdout")?)
            .stderr(file("stderr")?);
        // The settings of whoever runs the tests are not the tests'.
        for (name, _) in std::env::vars_os() {
            let settings = name.to_str().is_some_and(|name| name.starts_with("SHARDRUN_"));
            if settings {
                command.env_remove(name);
            }
        }
        command.envs(self.variables);
        let before = Leftovers::before();
        let child = spawn(command)?;
        Ok(Deployment::new(Start { folder: self.folder, child, before, turn }))
    }

    fn write(&self) -> anyhow::Result<PathBuf> {
        let mut text = String::new();
        for (key, value) in &self.keys {
            // Texts, numbers and bools are written alike in JSON and TOML.
            writeln!(text, "{key} = {value}")?;
        }
        let path = self.folder.path().join("deployment.toml");
        fs::write(&path, text)?;
        Ok(path)
    }
}

/// Two ports that nobody has, outside the range that the system gives to those who take any.
///
/// # Errors
/// If there are none.
pub fn free_ports() -> anyhow::Result<[u16; 2]> {
    // Not where another run of the tests begins to look.
    let first = 20_000 + (std::process::id() % 9_000) as u16;
    let mut free = (first..30_000).filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let mut next = || free.next()?.local_addr().ok().map(|address| address.port());
    // The first listener is closed when the second is opened: another port all the same.
    let ports = next().zip(next()).context("no two ports below 30000 are free")?;
    Ok(ports.into())
}
