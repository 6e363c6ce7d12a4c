//! A supervisor that is stopped, and goes on.

use std::time::Duration;

use anyhow::ensure;
use nix::sys::signal::Signal::{SIGCONT, SIGSTOP, SIGTERM};
use shardrun_tests::{Role, is_stopped, until};

use super::streams::{Playing, TOKENS, asked, expect_same, undisturbed};
use super::{END, Spawner, setup, until_ready};

/// Longer than leaders wait for a sign of life on their engines' lines.
const LONG: Duration = Duration::from_secs(10);

/// Its leaders have given up the lines to it by then, and offer their engines again.
#[test]
fn streams_go_on_when_the_supervisor_was_stopped_for_long_by_step() -> anyhow::Result<()> {
    let Some(setup) = setup(Spawner::Step)? else { return Ok(()) };
    let deployment = setup.serve()?;
    let client = deployment.client()?;
    until_ready(&client, 2.0, 1.0)?;
    let expected = undisturbed(&client, &asked())?;

    let playing = Playing::begin(&client, &asked());
    playing.until_come(0, "alpha", TOKENS)?;
    let (supervisor, ranks) = (deployment.pid(Role::Launcher)?, deployment.rank_pids());
    deployment.signal(Role::Launcher, SIGSTOP)?;
    until("the supervisor to stop", END, || is_stopped(supervisor))?;
    let running = playing.running();
    std::thread::sleep(LONG);
    deployment.signal(Role::Launcher, SIGCONT)?;
    println!("{running} streams ran when the supervisor was stopped");
    ensure!(running > 0, "all streams had ended before");
    expect_same(&playing.finish()?, &expected)?;

    // Each instance serves again, as it is.
    until_ready(&client, 2.0, 1.0)?;
    expect_same(&undisturbed(&client, &asked())?, &expected)?;
    ensure!(deployment.rank_pids() == ranks, "no rank was started again");
    let again = "the engine has a line to the supervisor again";
    for instance in ["alpha.0", "alpha.1", "beta.0"] {
        let logs = deployment.run_dir()?.join("logs").join(instance);
        let logs = std::fs::read_dir(&logs)?.map(|log| std::fs::read_to_string(log?.path()));
        let logs = logs.collect::<std::io::Result<String>>()?;
        ensure!(logs.contains(again), "{instance} has not said that {again}:\n{logs}");
    }
    deployment.signal(Role::Launcher, SIGTERM)?;
    let status = deployment.wait(END)?;
    ensure!(status.success(), "{status}");
    ensure!(!deployment.stderr().contains("panicked"), "{}", deployment.stderr());
    Ok(())
}
