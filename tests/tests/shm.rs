//! What a running deployment has in shared memory.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use shardrun_tests::{Leftovers, Role, Setup, model};

/// Everything of /dev/shm that the ranks have mapped or open, by rank.
fn used_by_ranks(ranks: &[i32]) -> anyhow::Result<Vec<(usize, PathBuf)>> {
    let mut used = Vec::new();
    for (rank, pid) in ranks.iter().enumerate() {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
        for line in maps.lines() {
            if let Some(at) = line.find("/dev/shm") {
                used.push((rank, PathBuf::from(&line[at..])));
            }
        }
    }
    used.sort();
    used.dedup();
    Ok(used)
}

fn every_name_has_its_rank(prefix: &str, ranks: &[i32]) -> anyhow::Result<()> {
    let names = Leftovers::named(prefix);
    for rank in 0..ranks.len() {
        let own = format!("/dev/shm/{prefix}{rank}_");
        let has = names.iter().any(|path| path.to_string_lossy().starts_with(&own));
        ensure!(has, "nothing begins with {own}: {names:?}");
    }
    for path in &names {
        let beginning = |rank| format!("/dev/shm/{prefix}{rank}_");
        let named = (0..ranks.len()).any(|r| path.to_string_lossy().starts_with(&beginning(r)));
        ensure!(named, "{} has no rank in its name", path.display());
        let meta = path.metadata()?;
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        ensure!(meta.mode() & 0o7777 == expected, "{}: {:o}", path.display(), meta.mode());
        ensure!(meta.uid() == nix::unistd::geteuid().as_raw(), "{}", path.display());
    }
    // Open MPI's, too.
    for (rank, path) in used_by_ranks(ranks)? {
        let path = path.to_string_lossy();
        ensure!(path.starts_with(&format!("/dev/shm/{prefix}")), "rank {rank} maps {path}");
    }
    Ok(())
}

fn look_at(setup: Setup, by_hand: bool, prefix: Option<&str>) -> anyhow::Result<()> {
    let deployment = if by_hand { setup.by_hand(2)? } else { setup.serve()? };
    let client = deployment.client()?;
    client.generate(&serde_json::json!({"text_input": "Hello", "max_tokens": 4}))?;
    let own = deployment.shm_prefix()?;
    match prefix {
        Some(prefix) => ensure!(own == prefix, "{own}"),
        None => {
            let user = format!("shardrun_{}_", nix::unistd::geteuid());
            ensure!(own.starts_with(&user) && own.len() > user.len() + 8, "{own}");
        }
    }
    let ranks = deployment.rank_pids();
    ensure!(ranks.len() == 2, "{:?}", deployment.processes());
    every_name_has_its_rank(&own, &ranks)?;
    let first = if by_hand { Role::Mpirun } else { Role::Launcher };
    deployment.signal(first, nix::sys::signal::Signal::SIGTERM)?;
    deployment.wait_until_gone(Duration::from_secs(5)).context("after SIGTERM")?;
    Ok(())
}

#[test]
fn names_begin_with_the_run_s_prefix_and_the_rank() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    look_at(Setup::new(&model)?, false, None)
}

#[test]
fn names_begin_with_the_prefix_of_the_file() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let prefix = format!("mine-{}.x_", std::process::id());
    look_at(Setup::new(&model)?.set("run.shm_prefix", &*prefix), false, Some(&prefix))
}

#[test]
fn names_by_hand_and_over_mpi_begin_with_the_prefix_too() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    look_at(Setup::new(&model)?.set("model.collectives", "mpi"), true, None)?;
    let prefix = format!("hand-{}_", std::process::id());
    look_at(Setup::new(&model)?.set("run.shm_prefix", &*prefix), true, Some(&prefix))
}
