//! Deployments in orchestrator mode: several models and instances behind one gateway, which outlives
//! the instances.

mod draining;
mod drill;
mod giving_up;
mod models;
mod refused;
mod stopped;
mod streams;

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use shardrun_tests::{Client, Deployment, Role, Setup, model, until};

/// How long an instance may take to come back.
const BACK: Duration = Duration::from_secs(60);
/// A deployment's end, once it is told to.
const END: Duration = Duration::from_secs(5);

/// What starts the ranks of an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spawner {
    /// An mpirun for each instance.
    Step,
    /// A `shardrun-spawn` for each instance.
    CommSpawn,
}

impl Spawner {
    /// As `launch.spawner` has it.
    fn key(self) -> &'static str {
        match self {
            Self::Step => "step",
            Self::CommSpawn => "comm_spawn",
        }
    }

    /// The processes of an instance of two ranks.
    fn roles(self) -> &'static [Role] {
        match self {
            Self::Step => &[Role::Mpirun, Role::Rank(0), Role::Rank(1)],
            Self::CommSpawn => &[Role::Spawner, Role::Daemon, Role::Rank(0), Role::Rank(1)],
        }
    }
}

/// The instances of [`setup`], and the model of each.
const INSTANCES: [&str; 3] = ["alpha", "alpha", "beta"];

/// Two instances of `alpha` with two ranks each, and one of `beta` with one rank.
fn setup(spawner: Spawner) -> anyhow::Result<Option<Setup>> {
    let Some(model) = model()? else { return Ok(None) };
    let setup = Setup::new(&model)?
        .set("models.alpha.instances", 2)
        .set("models.alpha.routing", "round_robin")
        .set("models.beta.tp_size", 1)
        .set("launch.spawner", spawner.key())
        .set("supervision.restart_backoff_ms", 50)
        .set("supervision.restart_backoff_max_ms", 50)
        .set("supervision.drain_timeout_ms", 60_000);
    Ok(Some(setup))
}

/// One instance of each model, with two ranks and one.
fn one_of_each(spawner: Spawner) -> anyhow::Result<Option<Setup>> {
    Ok(setup(spawner)?.map(|setup| setup.set("models.alpha.instances", 1)))
}

/// Text, the end token ignored: as many tokens as asked for.
fn endless(text: &str, max_tokens: usize) -> Value {
    json!({
        "text_input": text, "max_tokens": max_tokens, "end_id": -1, "exclude_input_in_output": true,
    })
}

/// Waits until so many instances of each model take requests.
fn until_ready(client: &Client, alpha: f64, beta: f64) -> anyhow::Result<Duration> {
    until("all instances to be ready", BACK, || {
        let metrics = client.metrics()?;
        let ready = |labels: &[_]| metrics.value("shardrun_instances_ready", labels);
        Ok((ready(&[ALPHA])?, ready(&[BETA])?) == (alpha, beta))
    })
}

/// The labels of the engines; `alpha` comes first in the file, so it has the plain name.
const ALPHA: (&str, &str) = ("model", "tensorrt_llm");
const BETA: (&str, &str) = ("model", "tensorrt_llm_beta");

/// Sends a signal to the process of an instance that has this role.
fn hit(deployment: &Deployment, instance: u32, role: Role, signal: Signal) -> anyhow::Result<()> {
    let pid = deployment.pid_of(instance, role)?;
    Ok(kill(Pid::from_raw(pid), signal)?)
}
