//! Deployments that are told to stop.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{self, SIGINT, SIGTERM};
use shardrun_tests::{Role, until};

use super::{END, Streaming, request, setup, slow_to_load, until_it_loads};

/// A signal to stop, mid-stream: the stream comes to its end, new requests are refused, all is well.
fn drain(ranks: i64, signal: Signal) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.set("model.tp_size", ranks).serve()?;
    let client = deployment.client()?;
    let expected = client.generate(&request(800))?;
    let stream = Streaming::begin(&client, 800)?;
    deployment.signal(Role::Launcher, signal)?;
    until("the deployment to drain", END, || Ok(client.get("/v2/health/ready")?.status == 400))?;
    let reply = client.post("/v2/models/ensemble/generate", request(1).to_string())?;
    ensure!(reply.status == 503 && reply.error()? == "the server is shutting down", "{reply:?}");
    ensure!(client.get("/v2/health/live")?.status == 200, "it lives to the end");
    let text = stream.end(Duration::from_secs(20))??;
    ensure!(text == expected, "{text:?} and not {expected:?}");
    let took = deployment.wait_until_gone(END)?;
    println!("{signal} mid-stream: all gone {took:.2?} after the stream");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    let printed = deployment.stderr();
    ensure!(printed.contains("t has ended") && !printed.contains("ERROR"), "{printed}");
    let starter = if ranks == 1 { "shardrun-worker.t.0.log" } else { "mpirun.t.0.log" };
    let mut left =
        ["deployment.layout.json", "deployment.toml", "logs", "run.json", "state.json", starter];
    left.sort_unstable();
    ensure!(deployment.run_files()? == left);
    Ok(())
}

#[test]
fn sigterm_lets_streams_finish() -> anyhow::Result<()> {
    drain(2, SIGTERM)
}

#[test]
fn sigterm_lets_streams_of_an_only_rank_finish() -> anyhow::Result<()> {
    drain(1, SIGTERM)
}

#[test]
fn sigint_lets_streams_finish() -> anyhow::Result<()> {
    drain(2, SIGINT)
}

#[test]
fn a_second_sigterm_ends_at_once() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    let stream = Streaming::begin(&client, 3000)?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    until("the first signal to be heard", END, || Ok(deployment.stderr().contains("SIGTERM: ")))?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    let took = deployment.wait_until_gone(Duration::from_secs(3))?;
    println!("a second SIGTERM: all gone after {took:.2?}");
    ensure!(stream.end(Duration::from_secs(1))?.is_err(), "the stream was cut");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn a_drain_ends_when_its_time_is_over() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.set("supervision.drain_timeout_ms", 700).serve()?;
    let client = deployment.client()?;
    let stream = Streaming::begin(&client, 3000)?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    let took = deployment.wait_until_gone(END)?;
    println!("a drain of 0.7 s: all gone after {took:.2?}");
    ensure!(took >= Duration::from_millis(700), "running requests had their time");
    let error = stream.end(Duration::from_secs(1))?.err().context("the stream was cut")?;
    let error = format!("{error:#}");
    ensure!(error.contains("the server is shutting down"), "the client is told why: {error}");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn sigterm_while_it_loads_ends_at_once() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = slow_to_load(setup).serve()?;
    until_it_loads(&deployment)?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    let took = deployment.wait_until_gone(END)?;
    println!("SIGTERM while it loads: all gone after {took:.2?}");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success() && deployment.stdout().is_empty(), "{status}");
    Ok(())
}
