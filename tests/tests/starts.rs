//! Deployments that can't start: each ends in time, with one clear error and nothing left.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use shardrun_tests::{Deployment, Setup, model, until};

/// How long a deployment may take to find out.
const FOUND_OUT: Duration = Duration::from_secs(30);
/// How long its end may take then.
const END: Duration = Duration::from_secs(5);

/// Who watches the ranks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// The launcher, which tells the error once.
    ByLauncher,
    /// Each other: every rank that comes to an error tells it.
    ByHand,
}

/// Expects the end of a deployment that says `sentence`.
fn expect_failure(deployment: &Deployment, watched: Watched, sentence: &str) -> anyhow::Result<()> {
    let began = Instant::now();
    let status = deployment.wait(FOUND_OUT)?;
    until("all processes to end", END, || Ok(deployment.processes().is_empty()))?;
    println!("ended after {:.2?} with {sentence:?}", began.elapsed());
    // By hand, mpirun may kill a rank before that has removed anything: the next start does it then,
    // as the drills of `death` show.
    if watched == Watched::ByLauncher {
        deployment.wait_until_gone(END)?;
    }
    until("Open MPI's files to be removed", END, || Ok(deployment.mpi_files().is_empty()))?;
    ensure!(status.code() == Some(1), "{status}");
    let printed = deployment.stderr();
    if let Ok(run) = deployment.run_dir()
        && let Ok(logs) = std::fs::read_dir(run.join("logs"))
    {
        // Who has failed has no need of a watcher any more.
        for log in logs {
            let log = std::fs::read_to_string(log?.path())?;
            ensure!(!log.contains("the supervisor is gone"), "{log}");
        }
    }
    let said = printed.matches(sentence).count();
    let enough = if watched == Watched::ByLauncher { said == 1 } else { said >= 1 };
    ensure!(enough, "{sentence:?} is said {said} times:\n{printed}");
    ensure!(!printed.contains("panicked"), "nothing panics:\n{printed}");
    ensure!(deployment.stdout().is_empty(), "it never was ready: {}", deployment.stdout());
    Ok(())
}

/// Expects it of both ways to start a deployment, as `change` makes it.
fn fails_both_ways(
    change: impl Fn(Setup) -> anyhow::Result<Setup>,
    sentence: &str,
) -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    expect_failure(&change(Setup::new(&model)?)?.serve()?, Watched::ByLauncher, sentence)?;
    expect_failure(&change(Setup::new(&model)?)?.by_hand(2)?, Watched::ByHand, sentence)
}

#[test]
fn a_port_in_use() -> anyhow::Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let port = taken.local_addr()?.port();
    for key in ["server.http_port", "server.metrics_port"] {
        let sentence = format!(
            "cannot listen on 127.0.0.1:{port}: the port is already in use; choose another {key}"
        );
        fails_both_ways(|setup| Ok(setup.set(key, port)), &sentence)?;
    }
    Ok(())
}

#[test]
fn a_model_that_is_not_there() -> anyhow::Result<()> {
    let path = "/nowhere/model.gguf";
    fails_both_ways(|setup| Ok(setup.set("model.source", path)), path)
}

/// The first `bytes` of a file.
fn first_part(of: &Path, bytes: u64, copy: &Path) -> anyhow::Result<()> {
    let mut part = Vec::new();
    File::open(of)?.take(bytes).read_to_end(&mut part)?;
    Ok(File::create(copy)?.write_all(&part)?)
}

#[test]
fn a_model_that_was_cut_short() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    // In its tensors, and in its header.
    for bytes in [50_000_000, 10_000] {
        let cut = |setup: Setup| {
            let copy = setup.folder().join("cut.gguf");
            first_part(&model, bytes, &copy)?;
            Ok(setup.set("model.source", copy.display().to_string()))
        };
        fails_both_ways(cut, "/cut.gguf")?;
    }
    Ok(())
}

#[test]
fn more_ranks_than_heads() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let setup = || anyhow::Ok(Setup::new(&model)?.set("model.tp_size", 10));
    let sentence = "model.tp_size is 10; the model has 9 query heads, so 1 to 9 ranks can share it";
    expect_failure(&setup()?.serve()?, Watched::ByLauncher, sentence)?;
    expect_failure(&setup()?.by_hand(10)?, Watched::ByHand, sentence)
}

#[test]
fn a_context_beyond_the_model_s() -> anyhow::Result<()> {
    let change =
        |setup: Setup| Ok(setup.set("model.max_seq_len", 9000).set("kv_cache.max_tokens", 16384));
    let sentence = "model.max_seq_len is 9000; the model's context has 8192 tokens";
    fails_both_ways(change, sentence)
}

/// Tasks as srun starts them where its PMIx is not the MPI library's: each would serve, alone.
#[test]
fn tasks_that_mpi_does_not_bring_together() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    for task in ["0", "3"] {
        let mut setup = Setup::new(&model)?.set("model.tp_size", 1);
        for (name, value) in [
            ("SLURM_JOB_ID", "7"),
            ("SLURM_STEP_ID", "0"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_STEP_NUM_NODES", "1"),
            ("SLURM_PROCID", task),
            ("SLURM_LOCALID", task),
            ("PMIX_RANK", task),
        ] {
            setup = setup.variable(name, value);
        }
        let deployment = setup.worker_alone()?;
        let status = deployment.wait(FOUND_OUT)?;
        ensure!(status.code() == Some(1), "{status}");
        let sentence = "srun started 4 ranks, and the MPI library knows of 1: ";
        let printed = deployment.stderr();
        ensure!(printed.contains(sentence) == (task == "0"), "task {task} says:\n{printed}");
        ensure!(deployment.stdout().is_empty(), "it served: {}", deployment.stdout());
        ensure!(deployment.leftovers().is_empty(), "{:?}", deployment.leftovers());
    }
    Ok(())
}

#[test]
fn another_number_of_ranks_than_the_deployment_s() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let three = Setup::new(&model)?.by_hand(3)?;
    expect_failure(
        &three,
        Watched::ByHand,
        "3 ranks were started and model.tp_size is 2; start 2 ranks",
    )?;
    drop(three);
    let alone = Setup::new(&model)?.worker_alone()?;
    expect_failure(
        &alone,
        Watched::ByHand,
        "1 rank was started and model.tp_size is 2; start it with `mpirun -n 2 shardrun-worker ...` \
         or `shardrun serve FILE`",
    )
}

#[test]
fn a_deployment_file_with_an_unknown_key() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let served = Setup::new(&model)?.set("model.tp_sise", 2).serve()?;
    let status = served.wait(FOUND_OUT)?;
    ensure!(status.code() == Some(1), "{status}");
    let printed = served.stderr();
    let line = printed.lines().find(|line| line.contains("tp_sise")).context("it is named")?;
    ensure!(line.contains("deployment.toml:") && line.contains("model.tp_size"), "{line}");
    Ok(())
}
