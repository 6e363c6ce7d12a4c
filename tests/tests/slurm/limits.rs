//! The end of a job: cancelled, drained before its time limit, and started again after it.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use shardrun_tests::slurm::User;
use shardrun_tests::until;

use super::site::{LONG, Site, Slurm, answers};

/// As a script of `shardrun submit` does, every start goes on with the same run.
fn again_and_again(file: &Path) -> String {
    format!(
        "for run in runs/*; do [ -d $run ] && exec shardrun serve --run-dir $run; done\n\
         exec shardrun serve {}",
        file.display()
    )
}

/// The time limit is a minute, the least that Slurm takes: the drain begins some seconds after the start.
#[test]
fn before_the_time_limit_it_drains_and_goes_back_to_the_queue() -> anyhow::Result<()> {
    let Some(site) = Site::new(1)? else { return Ok(()) };
    let file = site.file(
        User::Ada,
        &[
            ("slurm.drain_before_s", json!(48)),
            ("slurm.at_time_limit", json!("requeue")),
            ("kv_cache.max_tokens", json!(8192)),
        ],
    )?;
    let script = again_and_again(&file);
    let options = ["--time=1", "--requeue", "--cpus-per-task=2"];
    let began = Instant::now();
    let batch = site.job(User::Ada, &options, &script)?;
    let client = batch.client()?;
    let run = batch.run_dir()?;
    let request = json!({"text_input": "Once", "max_tokens": 7000, "end_id": -1});
    let mut events = client.stream(&request)?;
    events.next_text()?;
    batch.says("the time limit is near: running requests may finish", 1, LONG)?;
    println!("the time limit was near after {:.2?}", began.elapsed());
    // What runs goes on for a while; what is new is refused.
    ensure!(events.next_text()?.is_some(), "the stream goes on");
    let short = json!({"text_input": "Once", "max_tokens": 1}).to_string();
    until("new requests to be refused", LONG, || {
        let reply = client.post("/v2/models/ensemble/generate", &short)?;
        Ok(reply.status == 503 && reply.error()? == "the server is shutting down")
    })?;
    drop(events);
    batch.says("goes back to the queue", 1, LONG)?;
    site.nothing_left()?;
    let client = batch.client_of_start(2)?;
    println!("it served again after {:.2?}", began.elapsed());
    answers(&client, "ensemble")?;
    let job = site.cluster.job(batch.id)?;
    ensure!(job.field("Restarts") == "1", "{job:?}");
    ensure!(batch.run_dir()? == run, "it is another run");
    batch.cancel()
}

/// Partitions whose jobs make room for others, with so many seconds to do so.
fn partitions(grace_s: u32) -> String {
    format!(
        "PreemptType=preempt/partition_prio\nPreemptMode=REQUEUE\n\
         PartitionName=low Nodes=ALL PriorityTier=1 GraceTime={grace_s}\n\
         PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF"
    )
}

/// A job that others take the nodes of lets its requests finish, and serves again when they have ended.
fn preempted(keys: &[(&str, Value)], model: &str) -> anyhow::Result<()> {
    const GRACE_S: u32 = 40;
    let Some(site) = Site::with(1, &partitions(GRACE_S))? else { return Ok(()) };
    let keys = [&[("slurm.requeue", json!(true))], keys].concat();
    let script = again_and_again(&site.file(User::Ada, &keys)?);
    let options = [
        "--partition=low",
        "--time=10",
        "--requeue",
        "--exclusive",
        "--ntasks=1",
        "--cpus-per-task=2",
    ];
    let batch = site.job(User::Ada, &options, &script)?;
    let client = batch.client()?;
    // It lasts longer than supervision.drain_timeout_ms gives a stop, and shorter than the grace.
    let request = json!({"text_input": "Once", "max_tokens": 900, "end_id": -1,
        "exclude_input_in_output": true});
    let whole = client.answer(model, &request)?;
    let whole = whole["text_output"].as_str().context("text")?.to_owned();
    let mut events = client.stream_of(model, &request)?;
    let first = events.next_text()?.context("a stream has begun")?;
    let began = Instant::now();
    let other = site.cluster.write(User::Ben, "other.sh", "#!/bin/sh\nsleep 5\n")?;
    let other = other.display().to_string();
    site.cluster.submit(User::Ben, &["--partition=high", "--exclusive", &other])?;
    batch.says("the job is being preempted: running requests may finish within", 1, LONG)?;
    println!("preempted: told after {:.2?}", began.elapsed());
    let rest = events.rest().with_context(|| batch.said())?.concat();
    ensure!(first.clone() + &rest == whole, "{first:?} and {rest:?} are not {whole:?}");
    batch.says("goes back to the queue", 1, LONG)?;
    let client = batch.client_of_start(2)?;
    println!("it served again after {:.2?}", began.elapsed());
    answers(&client, model)?;
    let job = site.cluster.job(batch.id)?;
    ensure!(job.field("Restarts") == "1", "{job:?}");
    batch.cancel()
}

#[test]
fn preempted_in_leader_mode_it_drains_and_comes_back() -> anyhow::Result<()> {
    preempted(&[], "ensemble")
}

#[test]
fn preempted_with_an_instance_a_step_it_drains_and_comes_back() -> anyhow::Result<()> {
    preempted(&[("mode", json!("orchestrator")), ("launch.spawner", json!("step"))], "t")
}

#[test]
fn cancelled_it_ends_everywhere_within_seconds() -> anyhow::Result<()> {
    let Some(site) = Site::new(3)? else { return Ok(()) };
    let batch =
        site.serve(&["--nodes=3", "--ntasks-per-node=1"], &[("model.tp_size", json!(3))])?;
    // While it starts, and once it serves. A node whose neighbour in PMIx's ring was not started any
    // more sends to it for half a minute, by a process of Slurm's.
    batch.says("starting 3 ranks", 1, LONG)?;
    batch.cancel_but(Slurm::MayStay)?;
    let batch =
        site.serve(&["--nodes=3", "--ntasks-per-node=1"], &[("model.tp_size", json!(3))])?;
    let client = batch.client()?;
    let mut events =
        client.stream(&json!({"text_input": "Once", "max_tokens": 2000, "end_id": -1}))?;
    events.next_text()?;
    let began = Instant::now();
    batch.cancel()?;
    ensure!(began.elapsed() < Duration::from_secs(30), "it took {:.2?}", began.elapsed());
    Ok(())
}
