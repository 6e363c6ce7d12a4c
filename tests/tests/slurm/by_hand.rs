//! `srun --mpi=pmix shardrun-worker`, typed by a user.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;
use shardrun_tests::slurm::User;

use super::site::{LONG, Rank, Site, answers, counts};

/// A deployment of two ranks on two nodes, started without the launcher.
const BY_HAND: &str = "exec srun --mpi=pmix -K1 shardrun-worker --config d.toml";
const TWO_NODES: [&str; 2] = ["--nodes=2", "--ntasks-per-node=1"];

#[test]
fn ranks_on_two_nodes_serve_and_end_together() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    site.file(User::Ada, &[("model.tp_size", json!(2))])?;
    let batch = site.job(User::Ada, &TWO_NODES, BY_HAND)?;
    let client = batch.client()?;
    answers(&client, "ensemble")?;
    counts(&client, &[(0, 0, 1), (0, 1, 2)])?;
    let line =
        format!("started by srun as rank 0 of 2, local rank 0, Slurm job {}.0, on n1", batch.id);
    ensure!(batch.said().contains(&line), "no {line:?}:\n{}", batch.said());

    // A rank of another node dies: rank 0 says which, and nobody is left.
    let Rank { node, pid } = follower(&batch.said())?;
    ensure!(node == 2, "rank 1 is on node {node}");
    site.signal(2, "KILL", pid)?;
    let job = batch.end()?;
    ensure!(job.field("ExitCode") == "137:0", "{job:?}");
    let died = format!("rank 1 on n2 (pid {pid}) died; its log is ");
    ensure!(batch.said().contains(&died), "no {died:?}:\n{}", batch.said());

    // Nobody was left on its node who could remove what it had in memory: the next start there does.
    let again = site.job(User::Ada, &TWO_NODES, BY_HAND)?;
    again.client()?;
    let removed = "removed shared memory that a dead process left: ";
    let log = fs::read_to_string(again.run_dir()?.join("logs/rank1.n2.log"))?;
    ensure!(log.contains(removed), "{log}");
    again.cancel()
}

/// Rank 1, as rank 0 has said that it loaded.
fn follower(said: &str) -> anyhow::Result<Rank> {
    let (_, rest) = said.split_once("rank 1 on n").context("rank 1 has loaded")?;
    let (node, rest) = rest.split_once(" (pid ").context("its pid is said")?;
    let (pid, _) = rest.split_once(')').context("its pid is said")?;
    Ok(Rank { node: node.parse()?, pid: pid.parse()? })
}

#[test]
fn tasks_without_pmix_are_recognised() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    site.file(User::Ada, &[("model.tp_size", json!(2))])?;
    for (plugin, tasks, sentence) in [
        ("none", 2, "srun started 2 tasks without PMIx (its MPI plugin is none)"),
        ("pmi2", 2, "srun started 2 tasks without PMIx (its MPI plugin is pmi2)"),
        ("pmix", 3, "3 ranks were started and model.tp_size is 2; start 2 ranks"),
        ("pmix", 1, "1 rank was started and model.tp_size is 2"),
    ] {
        let script = format!(
            "exec srun --mpi={plugin} --nodes=1-2 --ntasks={tasks} shardrun-worker --config d.toml"
        );
        let batch = site.job(User::Ada, &["--nodes=2", "--ntasks-per-node=2"], &script)?;
        let job = batch.end()?;
        ensure!(job.field("ExitCode") == "1:0", "{job:?}\n{}", batch.said());
        let said = batch.said();
        ensure!(said.matches(sentence).count() == 1, "not one {sentence:?}:\n{said}");
        ensure!(said.matches("shardrun-worker: ").count() == 1, "one error:\n{said}");
        site.nothing_left()?;
    }
    Ok(())
}

#[test]
fn a_frozen_rank_of_another_node_ends_the_others() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    site.file(User::Ada, &[("model.tp_size", json!(2))])?;
    let batch = site.job(User::Ada, &TWO_NODES, BY_HAND)?;
    batch.client()?;
    let Rank { node, pid } = follower(&batch.said())?;
    site.signal(node, "STOP", pid)?;
    let silent = format!("no heartbeat of rank 1 on n2 (pid {pid}) for ");
    let took = batch.says(&silent, 1, Duration::from_secs(10))?;
    println!("by hand, a rank of another node frozen: noticed after {took:.2?}");
    batch.end()?;
    // It is frozen when Slurm kills it, so its names stay for the next start there, as above.
    let again = site.job(User::Ada, &TWO_NODES, BY_HAND)?;
    again.says("is ready", 1, LONG)?;
    again.cancel()
}
