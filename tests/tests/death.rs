//! Deployments that are hurt, each its own: whatever dies, everything ends within seconds, nothing is
//! left, and whoever is still there says what happened.

use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::{self, SIGCONT, SIGINT, SIGKILL, SIGSTOP, SIGTERM};
use serde_json::{Value, json};
use shardrun_tests::{Client, Deployment, Role, Setup, is_stopped, model, until};

/// A deployment's end after a death.
const END: Duration = Duration::from_secs(5);
/// Silence after which a rank counts as lost, in milliseconds.
const SILENCE_MS: u64 = 1500;
/// The launcher's exit code when it has lost a rank.
const LOST_A_RANK: i32 = 4;

fn setup() -> anyhow::Result<Option<Setup>> {
    let Some(model) = model()? else { return Ok(None) };
    let setup = Setup::new(&model)?
        .set("supervision.heartbeat_ms", 300)
        .set("supervision.heartbeat_timeout_ms", SILENCE_MS);
    Ok(Some(setup))
}

fn request(max_tokens: usize) -> Value {
    json!({"text_input": "Once upon a time", "max_tokens": max_tokens, "end_id": -1})
}

/// A stream that a thread reads.
struct Streaming(Receiver<anyhow::Result<usize>>);

impl Streaming {
    /// Begins one of `max_tokens`; its first tokens have come when this returns.
    fn begin(client: &Client, max_tokens: usize) -> anyhow::Result<Self> {
        let mut events = client.stream(&request(max_tokens))?;
        for _ in 0..3 {
            events.next_text()?.context("a stream has begun")?;
        }
        let (sender, end) = channel();
        std::thread::spawn(move || {
            // Nobody waits any more when the test has failed.
            let _ = sender.send(events.rest().map(|rest| 3 + rest.len()));
        });
        Ok(Self(end))
    }

    /// How many events came, or why they broke off; a stream never hangs.
    fn end(&self, within: Duration) -> anyhow::Result<anyhow::Result<usize>> {
        self.0.recv_timeout(within).context("the client's stream hangs")
    }
}

fn host() -> anyhow::Result<String> {
    Ok(nix::unistd::gethostname()?.to_string_lossy().into_owned())
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

/// Sends a signal to one process of a deployment that serves, and expects everything to end within
/// `within` of it. Gives the deployment, the pid that was hit, and how what was started ended.
fn hit(
    by: By,
    role: Role,
    signal: Signal,
    when: When,
    within: Duration,
) -> anyhow::Result<Option<(Deployment, i32, ExitStatus)>> {
    let Some(setup) = setup()? else { return Ok(None) };
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
    let left = shardrun_tests::Leftovers::named(&prefix);
    ensure!(left.is_empty(), "{left:?}");
    let status = deployment.wait(Duration::from_secs(1))?;
    Ok(Some((deployment, pid, status)))
}

/// The message of a launcher that has lost a rank: who, where, of what, and the end of its log.
fn expect_lost_rank(
    deployment: &Deployment,
    status: ExitStatus,
    rank: usize,
    pid: i32,
    end: &str,
) -> anyhow::Result<()> {
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

fn served_rank_killed(rank: usize, when: When) -> anyhow::Result<()> {
    let hit = hit(By::Launcher, Role::Rank(rank), SIGKILL, when, END)?;
    let Some((deployment, pid, status)) = hit else { return Ok(()) };
    expect_lost_rank(&deployment, status, rank, pid, "was killed by signal 9 (SIGKILL)")
}

#[test]
fn served_follower_killed_mid_stream() -> anyhow::Result<()> {
    served_rank_killed(1, When::MidStream)
}

#[test]
fn served_follower_killed_idle() -> anyhow::Result<()> {
    served_rank_killed(1, When::Idle)
}

#[test]
fn served_leader_killed_mid_stream() -> anyhow::Result<()> {
    served_rank_killed(0, When::MidStream)
}

#[test]
fn served_leader_killed_idle() -> anyhow::Result<()> {
    served_rank_killed(0, When::Idle)
}

fn served_mpirun_killed(when: When) -> anyhow::Result<()> {
    let hit = hit(By::Launcher, Role::Mpirun, SIGKILL, when, END)?;
    let Some((deployment, _, status)) = hit else { return Ok(()) };
    ensure!(status.code() == Some(LOST_A_RANK), "{status}");
    let printed = deployment.stderr();
    ensure!(printed.contains("shardrun: mpirun was killed by signal 9 (SIGKILL)"), "{printed}");
    Ok(())
}

#[test]
fn served_mpirun_killed_mid_stream() -> anyhow::Result<()> {
    served_mpirun_killed(When::MidStream)
}

#[test]
fn served_mpirun_killed_idle() -> anyhow::Result<()> {
    served_mpirun_killed(When::Idle)
}

fn launcher_killed(when: When) -> anyhow::Result<()> {
    let hit = hit(By::Launcher, Role::Launcher, SIGKILL, when, END)?;
    let Some((_deployment, _, status)) = hit else { return Ok(()) };
    ensure!(status.signal() == Some(9), "{status}");
    Ok(())
}

#[test]
fn launcher_killed_mid_stream() -> anyhow::Result<()> {
    launcher_killed(When::MidStream)
}

#[test]
fn launcher_killed_idle() -> anyhow::Result<()> {
    launcher_killed(When::Idle)
}

fn served_rank_stopped(rank: usize, when: When) -> anyhow::Result<()> {
    let within = Duration::from_millis(SILENCE_MS) + END;
    let hit = hit(By::Launcher, Role::Rank(rank), SIGSTOP, when, within)?;
    let Some((deployment, pid, status)) = hit else { return Ok(()) };
    expect_lost_rank(&deployment, status, rank, pid, "gave no heartbeat for ")?;
    ensure!(deployment.stderr().contains(" s: stopped or hung"));
    Ok(())
}

#[test]
fn served_follower_stopped_mid_stream() -> anyhow::Result<()> {
    served_rank_stopped(1, When::MidStream)
}

#[test]
fn served_leader_stopped_idle() -> anyhow::Result<()> {
    served_rank_stopped(0, When::Idle)
}

#[test]
fn by_hand_a_rank_killed() -> anyhow::Result<()> {
    for (rank, when) in [(1, When::MidStream), (1, When::Idle), (0, When::MidStream)] {
        let hit = hit(By::Hand, Role::Rank(rank), SIGKILL, when, END)?;
        let Some((deployment, pid, status)) = hit else { return Ok(()) };
        ensure!(!status.success(), "{status}");
        let printed = deployment.stderr();
        if rank == 1 {
            let message = format!("rank 1 on {} (pid {pid}) died; its log is ", host()?);
            ensure!(printed.contains(&message), "no {message:?}:\n{printed}");
        }
        // mpirun says this of both.
        let signal = printed.contains("exited on signal 9 (Killed)");
        ensure!(signal || rank == 1, "{printed}");
    }
    Ok(())
}

#[test]
fn by_hand_mpirun_killed() -> anyhow::Result<()> {
    let hit = hit(By::Hand, Role::Mpirun, SIGKILL, When::MidStream, END)?;
    let Some((deployment, _, status)) = hit else { return Ok(()) };
    ensure!(status.signal() == Some(9), "{status}");
    let log = deployment.run_dir()?.join(format!("logs/rank0.{}.log", host()?));
    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("the process that started this rank is gone; ending"), "{log}");
    Ok(())
}

#[test]
fn by_hand_a_rank_stopped() -> anyhow::Result<()> {
    let within = Duration::from_millis(SILENCE_MS) + END;
    let hit_1 = hit(By::Hand, Role::Rank(1), SIGSTOP, When::MidStream, within)?;
    let Some((deployment, pid, status)) = hit_1 else { return Ok(()) };
    ensure!(!status.success(), "{status}");
    let message = format!("no heartbeat of rank 1 on {} (pid {pid}) for ", host()?);
    ensure!(deployment.stderr().contains(&message), "{}", deployment.stderr());
    drop(deployment);
    let hit_0 = hit(By::Hand, Role::Rank(0), SIGSTOP, When::Idle, within)?;
    let (deployment, _, status) = hit_0.context("there is a model")?;
    ensure!(!status.success(), "{status}");
    let log = deployment.run_dir()?.join(format!("logs/rank1.{}.log", host()?));
    let log = std::fs::read_to_string(log)?;
    ensure!(log.contains("no heartbeat of rank 0 for "), "{log}");
    Ok(())
}

#[test]
fn a_rank_killed_while_it_loads() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.serve()?;
    let loading = Duration::from_secs(30);
    until("ranks to have logs", loading, || {
        let logs = deployment.run_dir().map(|run| run.join("logs"));
        let log = logs.and_then(|logs| Ok(logs.join(format!("rank1.{}.log", host()?))));
        Ok(log.is_ok_and(|log| log.metadata().is_ok_and(|log| log.len() > 0)))
    })?;
    let pid = deployment.pid(Role::Rank(1))?;
    deployment.signal(Role::Rank(1), SIGKILL)?;
    let took = deployment.wait_until_gone(END)?;
    println!("served, a rank killed while it loads: all gone after {took:.2?}");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.code().is_some_and(|code| code == LOST_A_RANK || code == 1), "{status}");
    let killed = format!("rank 1 on {} (pid {pid}) was killed by signal 9", host()?);
    ensure!(deployment.stderr().contains(&killed), "no {killed:?}");
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
    ensure!(streamed == 40 && deployment.rank_pids().len() == 2);
    // What came to it while it was stopped does no harm either.
    std::thread::sleep(Duration::from_millis(2 * SILENCE_MS));
    client.generate(&request(4))?;
    deployment.signal(Role::Launcher, SIGTERM)?;
    let status = deployment.wait(END)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

/// A signal to stop, mid-stream: the stream comes to its end, new requests are refused, all is well.
fn drain(signal: Signal) -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    let stream = Streaming::begin(&client, 150)?;
    deployment.signal(Role::Launcher, signal)?;
    until("the deployment to drain", END, || Ok(client.get("/v2/health/ready")?.status == 400))?;
    let reply = client.post("/v2/models/ensemble/generate", request(1).to_string())?;
    ensure!(reply.status == 503 && reply.error()? == "the server is shutting down", "{reply:?}");
    ensure!(client.get("/v2/health/live")?.status == 200, "it lives to the end");
    let events = stream.end(Duration::from_secs(20))??;
    ensure!(events == 150, "{events} events");
    let took = deployment.wait_until_gone(END)?;
    println!("{signal} mid-stream: all gone {took:.2?} after the stream");
    let status = deployment.wait(Duration::from_secs(1))?;
    ensure!(status.success(), "{status}");
    let printed = deployment.stderr();
    ensure!(printed.contains("t has ended") && !printed.contains("ERROR"), "{printed}");
    ensure!(deployment.run_files()? == ["deployment.toml", "logs", "mpirun.log"]);
    Ok(())
}

#[test]
fn sigterm_lets_streams_finish() -> anyhow::Result<()> {
    drain(SIGTERM)
}

#[test]
fn sigint_lets_streams_finish() -> anyhow::Result<()> {
    drain(SIGINT)
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
fn by_hand_sigterm_to_mpirun_ends_cleanly() -> anyhow::Result<()> {
    let Some(setup) = setup()? else { return Ok(()) };
    let deployment = setup.by_hand(2)?;
    let client = deployment.client()?;
    // mpirun gives its ranks about a second.
    let stream = Streaming::begin(&client, 10)?;
    deployment.signal(Role::Mpirun, SIGTERM)?;
    let events = stream.end(Duration::from_secs(5))??;
    ensure!(events == 10, "{events} events");
    let took = deployment.wait_until_gone(END)?;
    println!("by hand, SIGTERM to mpirun: all gone after {took:.2?}");
    ensure!(!deployment.stderr().contains("ERROR"), "{}", deployment.stderr());
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
