//! Deployments that are hurt, each its own: whatever dies, everything ends within seconds, nothing is
//! left, and whoever is still there says what happened.

mod by_hand;
mod served;
mod stopping;

use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use shardrun_tests::{Client, Deployment, Leftovers, Role, Setup, has_thread, model, until};

/// A deployment's end after a death.
const END: Duration = Duration::from_secs(5);
/// Silence after which a rank counts as lost, in milliseconds.
const SILENCE_MS: u64 = 1500;
/// The exit code of who has lost a rank.
const LOST_A_RANK: i32 = 4;

fn setup() -> anyhow::Result<Option<Setup>> {
    let Some(model) = model()? else { return Ok(None) };
    let setup = Setup::new(&model)?
        .set("supervision.heartbeat_ms", 300)
        .set("supervision.heartbeat_timeout_ms", SILENCE_MS);
    Ok(Some(setup))
}

fn request(max_tokens: usize) -> Value {
    json!({"text_input": "Once upon a time", "max_tokens": max_tokens, "end_id": -1,
           "exclude_input_in_output": true})
}

/// A stream that a thread reads.
struct Streaming(Receiver<anyhow::Result<String>>);

impl Streaming {
    /// Begins one of `max_tokens`; its first tokens have come when this returns.
    fn begin(client: &Client, max_tokens: usize) -> anyhow::Result<Self> {
        let mut events = client.stream(&request(max_tokens))?;
        let mut text = String::new();
        for _ in 0..3 {
            text += &events.next_text()?.context("a stream has begun")?;
        }
        let (sender, end) = channel();
        std::thread::spawn(move || {
            // Nobody waits any more when the test has failed.
            let _ = sender.send(events.rest().map(|rest| text + &rest.concat()));
        });
        Ok(Self(end))
    }

    /// All text that came, or why it broke off; a stream never hangs.
    fn end(&self, within: Duration) -> anyhow::Result<anyhow::Result<String>> {
        self.0.recv_timeout(within).context("the client's stream hangs")
    }
}

fn host() -> anyhow::Result<String> {
    Ok(nix::unistd::gethostname()?.to_string_lossy().into_owned())
}

/// A deployment that takes its time to load: its cache is large.
fn slow_to_load(setup: Setup) -> Setup {
    setup.set("kv_cache.max_tokens", 32768)
}

/// Waits until the launcher has heard of both ranks, which load then.
fn until_it_loads(deployment: &Deployment) -> anyhow::Result<()> {
    until("two ranks with heartbeats", Duration::from_secs(30), || {
        let ranks = deployment.rank_pids();
        // The thread is started after the rank has said hello.
        Ok(ranks.len() == 2 && ranks.iter().all(|&pid| has_thread(pid, "heartbeat")))
    })?;
    Ok(())
}

/// How mpirun starts a deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Launcher,
    Hand,
}

/// What the ranks do when it happens.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Idle,
    MidStream,
}

/// A deployment whose process `pid` was hit, and how what was started has ended.
struct Hit {
    deployment: Deployment,
    pid: i32,
    status: ExitStatus,
}

/// Sends a signal to one process of a deployment that serves, and expects everything to end within
/// `within` of it.
fn hit(
    (by, setup): (By, Setup),
    role: Role,
    signal: Signal,
    when: When,
    within: Duration,
) -> anyhow::Result<Hit> {
    let deployment = match by {
        By::Launcher => setup.serve()?,
        By::Hand => setup.by_hand(2)?,
    };
    let client = deployment.client()?;
    let stream = match when {
        When::Idle => None,
        When::MidStream => Some(Streaming::begin(&client, 3000)?),
    };
    let prefix = deployment.shm_prefix()?;
    let pid = deployment.pid(role)?;
    deployment.signal(role, signal)?;
    let took = deployment.wait_until_gone(within)?;
    let name = if by == By::Hand { "by hand" } else { "served" };
    let doing = if when == When::Idle { "idle" } else { "mid-stream" };
    println!("{name}, {role:?} hit by {signal} while {doing}: all gone after {took:.2?}");
    if let Some(stream) = stream {
        let end = stream.end(Duration::from_secs(1))?;
        ensure!(end.is_err(), "the stream was cut, and its client must not think that it is whole");
    }
    ensure!(!deployment.stderr().contains("panicked"), "nothing panics");
    // By hand it is mpirun itself that has the folder, and nobody is left to remove it.
    let orphaned = by == By::Hand && role == Role::Mpirun;
    let files = deployment.mpi_files();
    ensure!(files.is_empty() || orphaned, "Open MPI has left {files:?}");
    let left = Leftovers::named(&prefix);
    ensure!(left.is_empty(), "{left:?}");
    let status = deployment.wait(Duration::from_secs(1))?;
    Ok(Hit { deployment, pid, status })
}
