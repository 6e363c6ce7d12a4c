//! Deployments of several instances that are told to stop, and what is left of them.

use std::os::unix::fs::FileTypeExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{SIGKILL, SIGTERM};
use shardrun_tests::{Client, Deployment, Leftovers, Role, until};

use super::streams::{Playing, STREAMS, asked, asked_for, expect_same, undisturbed};
use super::{END, Spawner, endless, hit, setup, until_ready};

/// Tokens of streams that are to be cut: more than come before that.
const LONG: usize = 250;

fn begin(spawner: Spawner) -> anyhow::Result<Option<(Deployment, Client)>> {
    let Some(setup) = setup(spawner)? else { return Ok(None) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    until_ready(&client, 2.0, 1.0)?;
    Ok(Some((deployment, client)))
}

fn begin_to_drain(deployment: &Deployment, client: &Client) -> anyhow::Result<()> {
    deployment.signal(Role::Launcher, SIGTERM)?;
    until("the gateway to drain", END, || Ok(client.get("/v2/health/ready")?.status == 400))?;
    for model in ["alpha", "beta"] {
        let path = format!("/v2/models/{model}/generate");
        let reply = client.post(&path, endless("Hello", 4).to_string())?;
        let sentence = "the server is shutting down";
        ensure!(reply.status == 503 && reply.error()? == sentence, "{reply:?}");
    }
    ensure!(client.get("/v2/health/live")?.status == 200, "it lives to the end");
    Ok(())
}

/// No process, no shared memory, no socket, no file of MPI's.
fn expect_nothing_left(deployment: &Deployment, within: Duration) -> anyhow::Result<()> {
    let took = deployment.wait_until_gone(within)?;
    println!("all gone after {took:.2?}");
    let files = deployment.mpi_files();
    ensure!(files.is_empty(), "Open MPI has left {files:?}");
    let left = Leftovers::named(&deployment.shm_prefix()?);
    ensure!(left.is_empty(), "{left:?}");
    ensure!(!deployment.stderr().contains("panicked"), "{}", deployment.stderr());
    Ok(())
}

fn sockets(deployment: &Deployment) -> anyhow::Result<Vec<String>> {
    let run = deployment.run_dir()?;
    let is_socket =
        |name: &String| run.join(name).metadata().is_ok_and(|meta| meta.file_type().is_socket());
    Ok(deployment.run_files()?.into_iter().filter(is_socket).collect())
}

/// A rank that somebody asks to end: its instance is started again, and its streams go on.
fn a_rank_asked_to_end(spawner: Spawner) -> anyhow::Result<()> {
    let Some((deployment, client)) = begin(spawner)? else { return Ok(()) };
    let expected = undisturbed(&client, &asked())?;
    for rank in [0, 1] {
        let playing = Playing::begin(&client, &asked());
        playing.until_come(expected.len(), "alpha", 64)?;
        hit(&deployment, 0, Role::Rank(rank), SIGTERM)?;
        // It goes on for a while, since all may be meant.
        expect_same(&playing.finish()?, &expected)?;
        let playing = Playing::begin(&client, &asked());
        until("the instance to be lost", END, || {
            Ok(deployment.stderr().matches("was asked to end by SIGTERM").count() == rank + 1)
        })
        .with_context(|| deployment.stderr())?;
        expect_same(&playing.finish()?, &expected)?;
        until_ready(&client, 2.0, 1.0)?;
    }
    deployment.signal(Role::Launcher, SIGTERM)?;
    expect_nothing_left(&deployment, END)
}

#[test]
fn a_rank_asked_to_end_is_no_loss_by_step() -> anyhow::Result<()> {
    a_rank_asked_to_end(Spawner::Step)
}

#[test]
fn a_rank_asked_to_end_is_no_loss_by_comm_spawn() -> anyhow::Result<()> {
    a_rank_asked_to_end(Spawner::CommSpawn)
}

/// Streams that run come to their ends, those of an instance that dies meanwhile, too.
fn drain(spawner: Spawner) -> anyhow::Result<()> {
    let Some((deployment, client)) = begin(spawner)? else { return Ok(()) };
    let expected = undisturbed(&client, &asked())?;
    let playing = Playing::begin(&client, &asked());
    playing.until_come(expected.len(), "alpha", 64)?;
    begin_to_drain(&deployment, &client)?;
    hit(&deployment, 1, Role::Rank(0), SIGKILL)?;
    hit(&deployment, 2, spawner.roles()[0], SIGKILL)?;
    ensure!(deployment.state()?["stage"] == "draining");
    expect_same(&playing.finish()?, &expected)?;
    expect_nothing_left(&deployment, END)?;
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    ensure!(sockets(&deployment)?.is_empty(), "{:?}", sockets(&deployment)?);
    let state = deployment.state()?;
    ensure!(state["stage"] == "ended" && state["ended"]["code"] == 0, "{state}");
    Ok(())
}

#[test]
fn sigterm_lets_streams_finish_by_step() -> anyhow::Result<()> {
    drain(Spawner::Step)
}

#[test]
fn sigterm_lets_streams_finish_by_comm_spawn() -> anyhow::Result<()> {
    drain(Spawner::CommSpawn)
}

fn a_second_sigterm(spawner: Spawner) -> anyhow::Result<()> {
    let Some((deployment, client)) = begin(spawner)? else { return Ok(()) };
    let playing = Playing::begin(&client, &asked_for(LONG));
    playing.until_come(STREAMS, "alpha", 64)?;
    begin_to_drain(&deployment, &client)?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    expect_nothing_left(&deployment, END)?;
    ensure!(playing.ends()?.iter().any(Result::is_err), "streams were cut");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    ensure!(sockets(&deployment)?.is_empty(), "{:?}", sockets(&deployment)?);
    Ok(())
}

#[test]
fn a_second_sigterm_ends_at_once_by_step() -> anyhow::Result<()> {
    a_second_sigterm(Spawner::Step)
}

#[test]
fn a_second_sigterm_ends_at_once_by_comm_spawn() -> anyhow::Result<()> {
    a_second_sigterm(Spawner::CommSpawn)
}

fn the_supervisor_killed(spawner: Spawner) -> anyhow::Result<()> {
    let Some((deployment, client)) = begin(spawner)? else { return Ok(()) };
    let playing = Playing::begin(&client, &asked_for(LONG));
    playing.until_come(STREAMS, "alpha", 64)?;
    deployment.signal(Role::Launcher, SIGKILL)?;
    expect_nothing_left(&deployment, END)?;
    ensure!(playing.ends()?.iter().all(Result::is_err), "streams were cut");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.signal() == Some(9), "{status}");
    Ok(())
}

#[test]
fn the_supervisor_killed_leaves_nothing_by_step() -> anyhow::Result<()> {
    the_supervisor_killed(Spawner::Step)
}

#[test]
fn the_supervisor_killed_leaves_nothing_by_comm_spawn() -> anyhow::Result<()> {
    the_supervisor_killed(Spawner::CommSpawn)
}
