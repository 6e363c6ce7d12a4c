//! Deployments that `shardrun serve` watches.

use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{SIGCONT, SIGKILL, SIGSTOP, SIGTERM};
use shardrun_tests::{Role, Setup, is_stopped, until};

use super::{
    By, END, Hit, LOST_A_RANK, SILENCE_MS, Streaming, When, hit, host, request, setup,
    slow_to_load, until_it_loads,
};

/// The message of a launcher that has lost a rank: who, where, of what, and the end of its log.
fn expect_lost_rank(hit: &Hit, rank: usize, end: &str) -> anyhow::Result<()> {
    let Hit { deployment, pid, status } = hit;
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let host = host()?;
    let printed = deployment.stderr();
    let message = format!("shardrun: rank {rank} on {host} (pid {pid}) {end}");
    ensure!(printed.matches(&message).count() == 1, "no {message:?} in:\n{printed}");
    let (_, after) = printed.split_once(&message).context("the message is there")?;
    let log = deployment.run_dir()?.join(format!("logs/rank{rank}.{host}.log"));
    let shown = format!("\nits log is {}, and ends:\n", log.display());
    let (_, tail) = after.split_once(&shown).with_context(|| format!("no {shown:?}:\n{after}"))?;
    let log = std::fs::read_to_string(log)?;
    let last = log.lines().last().context("a log has lines")?;
    ensure!(tail.trim_end().ends_with(last), "the log ends {last:?}, what is shown:\n{tail}");
    Ok(())
}

fn rank_killed(rank: usize, when: When, collectives: &str) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let setup = setup.set("model.collectives", collectives);
    let hit = hit((By::Launcher, setup), Role::Rank(rank), SIGKILL, when, END)?;
    expect_lost_rank(&hit, rank, "was killed by signal 9 (SIGKILL)")
}

/// A deployment of one rank, which is started without MPI.
fn only_rank_hit(when: When) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let setup = setup.set("model.tp_size", 1);
    let hit = hit((By::Launcher, setup), Role::Rank(0), SIGKILL, when, END)?;
    let printed = hit.deployment.stderr();
    ensure!(
        printed.contains("started by shardrun serve as the only rank, without MPI"),
        "{printed}"
    );
    expect_lost_rank(&hit, 0, "was killed by signal 9 (SIGKILL)")
}

#[test]
fn only_rank_killed_mid_stream() -> anyhow::Result<()> {
    only_rank_hit(When::MidStream)
}

#[test]
fn only_rank_killed_idle() -> anyhow::Result<()> {
    only_rank_hit(When::Idle)
}

#[test]
fn only_rank_stopped_idle() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let setup = setup.set("model.tp_size", 1);
    let within = Duration::from_millis(SILENCE_MS) + END;
    let hit = hit((By::Launcher, setup), Role::Rank(0), SIGSTOP, When::Idle, within)?;
    expect_lost_rank(&hit, 0, "gave no heartbeat for ")
}

#[test]
fn follower_killed_mid_stream() -> anyhow::Result<()> {
    rank_killed(1, When::MidStream, "auto")
}

#[test]
fn follower_killed_mid_stream_over_mpi() -> anyhow::Result<()> {
    rank_killed(1, When::MidStream, "mpi")
}

#[test]
fn follower_killed_idle() -> anyhow::Result<()> {
    rank_killed(1, When::Idle, "auto")
}

#[test]
fn leader_killed_mid_stream() -> anyhow::Result<()> {
    rank_killed(0, When::MidStream, "auto")
}

#[test]
fn leader_killed_idle() -> anyhow::Result<()> {
    rank_killed(0, When::Idle, "auto")
}

fn mpirun_killed(when: When) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let Hit { deployment, status, .. } =
        hit((By::Launcher, setup), Role::Mpirun, SIGKILL, when, END)?;
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let printed = deployment.stderr();
    ensure!(printed.contains("shardrun: mpirun was killed by signal 9 (SIGKILL)"), "{printed}");
    Ok(())
}

#[test]
fn mpirun_killed_mid_stream() -> anyhow::Result<()> {
    mpirun_killed(When::MidStream)
}

#[test]
fn mpirun_killed_idle() -> anyhow::Result<()> {
    mpirun_killed(When::Idle)
}

fn launcher_killed(ranks: usize, when: When) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let setup = setup.set("model.tp_size", ranks as i64);
    let hit = hit((By::Launcher, setup), Role::Launcher, SIGKILL, when, END)?;
    ensure!(hit.status.signal() == Some(9), "{}", hit.status);
    let left = hit.deployment.run_files()?;
    ensure!(!left.iter().any(|name| name == "lifeline"), "its ranks remove its socket: {left:?}");
    Ok(())
}

#[test]
fn launcher_killed_mid_stream() -> anyhow::Result<()> {
    launcher_killed(2, When::MidStream)
}

#[test]
fn launcher_killed_mid_stream_of_an_only_rank() -> anyhow::Result<()> {
    launcher_killed(1, When::MidStream)
}

#[test]
fn launcher_killed_idle() -> anyhow::Result<()> {
    launcher_killed(2, When::Idle)
}

fn rank_stopped(rank: usize, when: When) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let within = Duration::from_millis(SILENCE_MS) + END;
    let hit = hit((By::Launcher, setup), Role::Rank(rank), SIGSTOP, when, within)?;
    expect_lost_rank(&hit, rank, "gave no heartbeat for ")?;
    ensure!(hit.deployment.stderr().contains(" s: its process is stopped (SIGSTOP, "));
    Ok(())
}

#[test]
fn follower_stopped_mid_stream() -> anyhow::Result<()> {
    rank_stopped(1, When::MidStream)
}

#[test]
fn leader_stopped_idle() -> anyhow::Result<()> {
    rank_stopped(0, When::Idle)
}

#[test]
fn a_rank_killed_while_it_loads() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = slow_to_load(setup).serve()?;
    until_it_loads(&deployment)?;
    let pid = deployment.pid(Role::Rank(1))?;
    deployment.signal(Role::Rank(1), SIGKILL)?;
    let took = deployment.wait_until_gone(END)?;
    println!("served, a rank killed while it loads: all gone after {took:.2?}");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let killed = format!("rank 1 on {} (pid {pid}) was killed by signal 9", host()?);
    ensure!(deployment.stderr().contains(&killed), "no {killed:?}");
    Ok(())
}

/// As one that reads the model over the network, when the others have it in their page caches.
#[test]
fn a_rank_that_takes_long_to_load_is_waited_for() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let setup = setup
        .set("supervision.collective_timeout_ms", 1000)
        .set("supervision.heartbeat_timeout_ms", 30_000);
    let deployment = slow_to_load(setup).serve()?;
    until_it_loads(&deployment)?;
    deployment.signal(Role::Rank(1), SIGSTOP)?;
    std::thread::sleep(Duration::from_secs(4));
    deployment.signal(Role::Rank(1), SIGCONT)?;
    deployment.client()?.generate(&request(4))?;
    Ok(())
}

#[test]
fn a_launcher_that_is_stopped_for_a_while_goes_on() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    let launcher = deployment.pid(Role::Launcher)?;
    deployment.signal(Role::Launcher, SIGSTOP)?;
    until("the launcher to stop", END, || is_stopped(launcher))?;
    let began = Instant::now();
    let mut answers = 0;
    // As long as it stands still, and twice the silence that ranks are allowed, clients are served.
    while began.elapsed() < Duration::from_secs(3) {
        client.generate(&request(4))?;
        answers += 1;
    }
    deployment.signal(Role::Launcher, SIGCONT)?;
    println!("{answers} answers while the launcher was stopped");
    let streamed = Streaming::begin(&client, 40)?.end(Duration::from_secs(30))??;
    ensure!(streamed == client.generate(&request(40))? && deployment.rank_pids().len() == 2);
    // What came to it while it was stopped does no harm either.
    std::thread::sleep(Duration::from_millis(2 * SILENCE_MS));
    client.generate(&request(4))?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    let status = deployment.wait(END)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// What a killed deployment left is gone with the next start.
#[test]
fn the_next_start_removes_what_a_killed_deployment_left() -> anyhow::Result<()> {
    let own = format!("stale-{}_", std::process::id());
    for prefix in [None, Some(own.as_str())] {
        let with_prefix = |setup: Setup| match prefix {
            Some(prefix) => setup.set("run.shm_prefix", prefix),
            None => setup,
        };
        let Some(first) = setup()? else { return Ok(()) };
        let deployment = with_prefix(first).serve()?;
        deployment.ready()?;
        let left = deployment.kill_and_leave()?;
        ensure!(left.len() >= 4, "two ranks have left {left:?}");
        let second = with_prefix(setup()?.context("there is a model")?).serve()?;
        second.client()?.generate(&request(4))?;
        let ours = second.shm_prefix()?;
        for path in left {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let again = name.is_some_and(|name| name.starts_with(&ours));
            // With a prefix of their own, they have the same names.
            ensure!(again == prefix.is_some() || !path.exists(), "{} is left", path.display());
        }
        second.signal(Role::Launcher, SIGTERM)?;
        second.wait_until_gone(END)?;
    }
    Ok(())
}
