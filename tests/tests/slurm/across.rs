//! `shardrun serve` in an allocation, leader mode: across its nodes by srun and by mpirun.

use anyhow::ensure;
use serde_json::json;

use super::site::{Site, answers, counts};

/// Serves `ranks` ranks on `nodes` nodes with room for two each.
fn serves(site: &Site, starter: &str, nodes: usize, ranks: usize) -> anyhow::Result<()> {
    let keys = [("model.tp_size", json!(ranks)), ("launch.starter", json!(starter))];
    let nodes_asked = format!("--nodes={nodes}");
    let batch = site.serve(&[&nodes_asked, "--ntasks-per-node=1", "--cpus-per-task=2"], &keys)?;
    let client = batch.client()?;
    answers(&client, "ensemble")?;
    let hosts = (0..ranks)
        .map(|rank| Ok(batch.rank(0, rank)?.node))
        .collect::<Result<Vec<_>, anyhow::Error>>()?;
    let expected: Vec<_> = (0..ranks).map(|rank| 1 + rank * nodes / ranks).collect();
    ensure!(hosts == expected, "the ranks are on {hosts:?}, not {expected:?}");
    let all: Vec<_> = hosts.iter().enumerate().map(|(rank, &node)| (0, rank, node)).collect();
    counts(&client, &all)?;
    println!("{starter}, {ranks} ranks on {nodes} nodes");
    batch.cancel()
}

#[test]
fn leader_mode_across_nodes_by_srun() -> anyhow::Result<()> {
    let Some(site) = Site::new(3)? else { return Ok(()) };
    serves(&site, "auto", 3, 3)?;
    serves(&site, "auto", 2, 3)
}

#[test]
fn leader_mode_across_nodes_by_mpirun() -> anyhow::Result<()> {
    let Some(site) = Site::new(2)? else { return Ok(()) };
    serves(&site, "mpirun", 2, 2)?;
    serves(&site, "mpirun", 2, 3)
}
