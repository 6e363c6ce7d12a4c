//! Deaths in orchestrator mode across nodes: streams go on with the same text where an instance can be
//! started again, the messages tell a killed rank from a frozen one and from a lost node, and what can't
//! go on ends everywhere.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use shardrun_tests::Client;

use super::orchestrated::two_models;
use super::site::{Batch, LONG, SILENCE_MS, Site, Slurm, answers};

/// From a death to the next token: the instance starts and loads again, on a machine that does all nodes'
/// work.
const BACK: Duration = Duration::from_secs(25);

/// Tokens of a stream: it lasts for seconds.
const TOKENS: usize = 32;

fn request() -> Value {
    json!({"text_input": "Once upon a time", "max_tokens": TOKENS, "end_id": -1,
        "exclude_input_in_output": true})
}

/// Streams from model `a` while `event` happens, and expects the text `whole` of an undisturbed stream. Says
/// how long after the event the first token came that was waited for.
fn survives(
    (client, whole): (&Client, &str),
    what: &str,
    event: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut events = client.stream(&request())?;
    let mut texts = Vec::new();
    for _ in 0..6 {
        texts.push(events.next_text()?.context("a stream has begun")?);
    }
    let hit = Instant::now();
    event()?;
    let mut longest = (Duration::ZERO, Duration::ZERO);
    let mut last = hit;
    while let Some(text) = events.next_text().with_context(|| format!("{what}: {texts:?}"))? {
        longest = longest.max((last.elapsed(), hit.elapsed()));
        last = Instant::now();
        texts.push(text);
    }
    let pause = longest.1;
    println!("{what}: the next token after {pause:.2?}");
    ensure!(pause < BACK, "the pause was {pause:.2?}");
    ensure!(texts.concat() == whole, "{what}: {texts:?} is not {whole:?}");
    Ok(())
}

/// The process on node 1 that starts the ranks of `a`.
fn starter_of_a(site: &Site, program: &str) -> anyhow::Result<i32> {
    let of_a = |pid: &i32| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
        text.contains("--instance 0 ")
    };
    let pids = site.cluster.node(1)?.pids(program);
    // srun has a child of its name, which is the younger.
    pids.into_iter().filter(of_a).min().with_context(|| format!("no {program} of a"))
}

fn deaths(spawner: &str, starter: &str) -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    let batch = two_models(&site, spawner, &[])?;
    let client = batch.client()?;
    let whole = client.generate(&request())?;

    let killed = batch.rank(0, 2)?;
    survives((&client, &whole), &format!("{spawner}, a rank of another node killed"), || {
        site.signal(killed.node, "KILL", killed.pid)
    })?;
    let said = batch.said();
    let died = format!("a.0: rank 2 on n2 (pid {})", killed.pid);
    ensure!(said.matches(&died).count() == 1, "not one {died:?}:\n{said}");

    survives((&client, &whole), &format!("{spawner}, {starter} killed"), || {
        Ok(kill(Pid::from_raw(starter_of_a(&site, starter)?), Signal::SIGKILL)?)
    })?;
    let by_signal = format!("a.0: {starter} was killed by signal 9 (SIGKILL)");
    ensure!(batch.said().contains(&by_signal), "no {by_signal:?}:\n{}", batch.said());

    batch.says("starting it again", 2, LONG)?;
    let frozen = batch.rank(0, 2)?;
    survives((&client, &whole), &format!("{spawner}, a rank of another node frozen"), || {
        site.signal(frozen.node, "STOP", frozen.pid)
    })?;
    let said = batch.said();
    let silent = format!("(pid {}) gave no heartbeat for ", frozen.pid);
    let why = "its node answers, so the process is stopped or hung";
    let line = said.lines().find(|line| line.contains(&silent));
    ensure!(line.is_some_and(|line| line.ends_with(why)), "no {silent:?} with {why:?}:\n{said}");

    answers(&client, "b")?;
    ensure!(!said.contains("b.0: rank 0 on n2 (pid"), "the other instance was lost, too:\n{said}");

    // The batch script, which is the supervisor: everything ends.
    let began = Instant::now();
    let supervisors = site.cluster.node(1)?.pids("shardrun");
    let supervisor = *supervisors.first().context("the supervisor is on node 1")?;
    kill(Pid::from_raw(supervisor), Signal::SIGKILL)?;
    batch.end()?;
    site.nothing_left()?;
    println!("{spawner}, the batch script killed: all gone after {:.2?}", began.elapsed());
    Ok(())
}

#[test]
fn deaths_with_steps() -> anyhow::Result<()> {
    deaths("step", "srun")
}

#[test]
fn deaths_with_comm_spawn() -> anyhow::Result<()> {
    deaths("comm_spawn", "shardrun-spawn")
}

#[test]
fn a_node_cut_off_comes_back() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    let batch = two_models(&site, "step", &[])?;
    let client = batch.client()?;
    let whole = client.generate(&request())?;
    survives((&client, &whole), "step, a node's cable out for a while", || {
        site.cluster.unplug(2)?;
        let noticed = batch.says("its node does not answer", 2, LONG)?;
        println!("a node without a cable: noticed after {noticed:.2?}");
        let silence = Duration::from_millis(SILENCE_MS);
        ensure!(noticed < silence + Duration::from_secs(8), "{noticed:.2?}");
        // Before Slurm gives the node up.
        site.cluster.plug(2)
    })
    .with_context(|| batch.said())?;
    answers(&client, "b")?;
    batch.cancel_but(Slurm::MayStay)
}

/// Slurm ends the job of a lost node, and starts it again where there are enough nodes.
#[test]
fn a_job_that_lost_a_node_starts_again_elsewhere() -> anyhow::Result<()> {
    let Some(mut site) = Site::new(3)? else { return Ok(()) };
    let batch = two_models(&site, "step", &["--requeue"])?;
    batch.client()?;
    let id = batch.id;
    let began = Instant::now();
    site.cluster.power_off(2)?;
    let batch = Batch::again(&site, id);
    batch.says("its node does not answer: it is down, or cut off from the network", 2, LONG)?;
    println!("a node without power: noticed after {:.2?}", began.elapsed());
    let client = batch.client_of_start(2)?;
    println!("a node without power: the job serves again after {:.2?}", began.elapsed());
    answers(&client, "a")?;
    answers(&client, "b")?;
    batch.cancel_but(Slurm::MayStay)
}

/// In leader mode the loss of a node is the end of what was started, and the job goes back to the queue by
/// itself, long before Slurm gives the node up.
#[test]
fn leader_mode_goes_back_to_the_queue_when_a_node_is_lost() -> anyhow::Result<()> {
    let Some(mut site) = Site::new(3)? else { return Ok(()) };
    let options = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--requeue"];
    let keys = [("model.tp_size", json!(2)), ("slurm.requeue", json!(true))];
    let batch = site.serve(&options, &keys)?;
    batch.client()?;
    let id = batch.id;
    let began = Instant::now();
    site.cluster.power_off(2)?;
    let batch = Batch::again(&site, id);
    batch.says("goes back to the queue", 1, LONG)?;
    println!("a node without power: back in the queue after {:.2?}", began.elapsed());
    let client = batch.client_of_start(2)?;
    println!("a node without power: the job serves again after {:.2?}", began.elapsed());
    answers(&client, "ensemble")?;
    batch.cancel_but(Slurm::MayStay)
}
