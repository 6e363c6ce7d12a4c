//! Spawns that MPI refuses are errors that say what was refused.

use std::process::{Command, Output};

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal::SIGKILL;
use shardrun_tests::{Role, program, until};

use super::{BACK, END, Spawner, endless, hit, one_of_each};

/// What `shardrun-spawn` says to these arguments.
fn spawn(arguments: &[&str]) -> anyhow::Result<Output> {
    let folder = tempfile::tempdir()?;
    let output = Command::new(program("shardrun-spawn")?)
        .args(arguments)
        .env("OMPI_MCA_orte_tmpdir_base", folder.path())
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .output()?;
    Ok(output)
}

/// Expects that it ends by itself, with MPI's refusal.
fn expect_refusal(arguments: &[&str], sentence: &str) -> anyhow::Result<()> {
    let output = spawn(arguments)?;
    let printed = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{}: {printed}", output.status);
    let said = printed.lines().find(|line| line.starts_with("shardrun-spawn: "));
    let said = said.with_context(|| format!("nothing is said: {printed}"))?;
    ensure!(said.contains(sentence), "{said}");
    Ok(())
}

#[test]
fn a_program_that_is_not_there() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = folder.path().join("text");
    std::fs::write(&text, "no program")?;
    for program in ["/nowhere/shardrun-worker", &text.display().to_string()] {
        let sentence = format!(" has no program {program}");
        expect_refusal(&["--ranks", "2", "--", program], &sentence)?;
        // Nor does MPI's own silence about a node's lack of it keep anyone waiting.
        let hosts = format!("{}:2", nix::unistd::gethostname()?.display());
        expect_refusal(&["--ranks", "2", "--hosts", &hosts, "--", program], &sentence)?;
    }
    Ok(())
}

/// Ranks that never speak MPI are waited for so long, and no longer.
#[test]
fn ranks_that_do_not_come() -> anyhow::Result<()> {
    let sentence = "MPI did not start 2 of /bin/sleep within 2s (launch.ready_timeout_ms)";
    expect_refusal(&["--ranks", "2", "--timeout-ms", "2000", "--", "/bin/sleep", "60"], sentence)
}

#[test]
fn a_node_that_is_not_there() -> anyhow::Result<()> {
    let worker = program("shardrun-worker")?.display().to_string();
    let hosts = "no-such-node.invalid:2";
    expect_refusal(
        &["--ranks", "2", "--hosts", hosts, "--add-hosts", "--", &worker],
        &format!("MPI refuses to spawn 2 of {worker} on {hosts}: MPI_ERR_SPAWN"),
    )
}

/// A deployment on a node that is not there is given up, one instance after the other, and ends.
#[test]
fn a_deployment_on_a_node_that_is_not_there() -> anyhow::Result<()> {
    let Some(setup) = one_of_each(Spawner::CommSpawn)? else { return Ok(()) };
    let deployment = setup
        .set("launch.hosts", vec!["no-such-node.invalid:3"])
        .set("launch.interface", "lo")
        .set("supervision.max_restarts", 1)
        .serve()?;
    until("both to be given up", BACK, || {
        let Ok(state) = deployment.state() else { return Ok(false) };
        let instances = state["instances"].as_array().cloned().unwrap_or_default();
        Ok(instances.len() == 2 && instances.iter().all(|one| one["state"] == "given up"))
    })?;
    let printed = deployment.stderr();
    for (instance, ranks) in [("alpha.0", 2), ("beta.0", 1)] {
        let ended = format!("{instance}: shardrun-spawn exited with code 1 before any rank");
        let refused = format!("on no-such-node.invalid:{ranks}: MPI_ERR_SPAWN: could not spawn");
        ensure!(printed.contains(&ended) && printed.contains(&refused), "{printed}");
    }
    ensure!(deployment.stdout().is_empty(), "it never was ready: {}", deployment.stdout());
    let status = deployment.wait(END)?;
    ensure!(status.code() == Some(1), "{status}");
    deployment.wait_until_gone(END)?;
    Ok(())
}

/// A worker that is removed while it runs: the instance can't come back, and says why.
fn a_worker_that_goes_away(spawner: Spawner) -> anyhow::Result<()> {
    let Some(setup) = one_of_each(spawner)? else { return Ok(()) };
    let worker = setup.folder().join("shardrun-worker");
    std::os::unix::fs::symlink(program("shardrun-worker")?, &worker)?;
    let deployment = setup
        .variable("SHARDRUN_WORKER", worker.display().to_string())
        .set("supervision.max_restarts", 2)
        .serve()?;
    let client = deployment.client()?;
    std::fs::remove_file(&worker)?;
    hit(&deployment, 0, Role::Rank(1), SIGKILL)?;
    until("the instance to be given up", BACK, || {
        Ok(deployment.state()?["instances"][0]["state"] == "given up")
    })?;
    let printed = deployment.stderr();
    ensure!(printed.contains(&worker.display().to_string()), "{printed}");
    let reply = client.post("/v2/models/alpha/generate", endless("Hello", 4).to_string())?;
    let error = reply.error()?;
    let sentence = "the engine has ended: alpha has no instance any more: ";
    ensure!(reply.status == 503 && error.starts_with(sentence), "{reply:?}");
    client.answer("beta", &endless("Hello", 4))?;
    Ok(())
}

#[test]
fn a_worker_that_goes_away_by_step() -> anyhow::Result<()> {
    a_worker_that_goes_away(Spawner::Step)
}

#[test]
fn a_worker_that_goes_away_by_comm_spawn() -> anyhow::Result<()> {
    a_worker_that_goes_away(Spawner::CommSpawn)
}
