//! Deployments that `mpirun -n 2 shardrun-worker` started: the ranks watch each other.

use std::os::unix::process::ExitStatusExt as _;
use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal::{SIGKILL, SIGSTOP, SIGTERM};
use shardrun_tests::{Role, has_thread, until, until_some};

use super::{By, END, Hit, LOST_A_RANK, SILENCE_MS, Streaming, When, hit, host, request, setup};

#[test]
fn by_hand_a_rank_killed() -> anyhow::Result<()> {
    for (rank, when) in [(1, When::MidStream), (1, When::Idle), (0, When::MidStream)] {
        let Some(setup) = setup()? else { return Ok(()) };
        let Hit { deployment, pid, status } =
            hit((By::Hand, setup), Role::Rank(rank), SIGKILL, when, END)?;
        ensure!(status.code() == Some(128 + 9), "{status}");
        let printed = deployment.stderr();
        let host = host()?;
        let mpirun_says = format!("process rank {rank} with PID");
        let of_signal = format!("on node {host} exited on signal 9 (Killed)");
        ensure!(printed.contains(&mpirun_says) && printed.contains(&of_signal), "{printed}");
        let message = format!("rank 1 on {host} (pid {pid}) died; its log is ");
        ensure!(rank == 0 || printed.contains(&message), "no {message:?}:\n{printed}");
    }
    Ok(())
}

#[test]
fn by_hand_mpirun_killed() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let Hit { deployment, status, .. } =
        hit((By::Hand, setup), Role::Mpirun, SIGKILL, When::MidStream, END)?;
    ensure!(status.signal() == Some(9), "{status}");
    let log = deployment.run_dir()?.join(format!("logs/rank0.{}.log", host()?));
    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("the process that started this rank is gone; ending"), "{log}");
    Ok(())
}

/// Longer than any rank may be silent.
const FOUND: Duration = Duration::from_millis(SILENCE_MS + END.as_millis() as u64);

#[test]
fn by_hand_follower_stopped() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let Hit { deployment, pid, status } =
        hit((By::Hand, setup), Role::Rank(1), SIGSTOP, When::MidStream, FOUND)?;
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let message = format!("no heartbeat of rank 1 on {} (pid {pid}) for ", host()?);
    ensure!(deployment.stderr().contains(&message), "{}", deployment.stderr());
    Ok(())
}

#[test]
fn by_hand_leader_stopped() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let Hit { deployment, status, .. } =
        hit((By::Hand, setup), Role::Rank(0), SIGSTOP, When::Idle, FOUND)?;
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let log = deployment.run_dir()?.join(format!("logs/rank1.{}.log", host()?));
    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("no heartbeat of rank 0 for "), "{log}");
    Ok(())
}

#[test]
fn by_hand_sigterm_to_mpirun_ends_cleanly() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.by_hand(2)?;
    let client = deployment.client()?;
    // mpirun gives its ranks about a second.
    let expected = client.generate(&request(10))?;
    let stream = Streaming::begin(&client, 10)?;
    deployment.signal(Role::Mpirun, SIGTERM)?;
    let text = stream.end(Duration::from_secs(5))??;
    ensure!(text == expected, "{text:?} and not {expected:?}");
    let took = deployment.wait_until_gone(END)?;
    println!("by hand, SIGTERM to mpirun: all gone after {took:.2?}");
    ensure!(!deployment.stderr().contains("ERROR"), "{}", deployment.stderr());
    Ok(())
}

#[test]
fn by_hand_sigterm_while_ranks_wait_for_each_other() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.by_hand(2)?;
    // Before it has come to MPI_Init, in which rank 1 waits for it.
    let pid_of = |rank| until_some("a rank", END, || Ok(deployment.pid(Role::Rank(rank)).ok()));
    pid_of(0)?;
    deployment.signal(Role::Rank(0), SIGSTOP)?;
    let waiting = pid_of(1)?;
    until("rank 1 to begin MPI", END, || Ok(has_thread(waiting, "signals")))?;
    deployment.signal(Role::Rank(1), SIGTERM)?;
    let status = deployment.wait(END)?;
    ensure!(status.code() == Some(128 + 15), "{status}");
    let took = deployment.wait_until_gone(END)?;
    println!("by hand, SIGTERM to a rank that waits for another: all gone after {took:.2?}");
    let printed = deployment.stderr();
    ensure!(printed.contains("process rank 1 with PID"), "{printed}");
    ensure!(printed.contains("exited on signal 15 (Terminated)"), "{printed}");
    Ok(())
}
