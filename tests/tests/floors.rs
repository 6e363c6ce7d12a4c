//! The house stands as it was drawn: a crate uses only crates on floors below its own.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

/// Every crate's floor. One that has none yet is built when it has content.
const FLOORS: &[&[&str]] = &[
    &["shardrun-config", "shardrun-wire", "shardrun-files", "shardrun-shm", "shardrun-slurm"],
    &["shardrun-comm", "shardrun-metrics", "shardrun-text"],
    &["shardrun-model"],
    &["shardrun-gateway", "shardrun-engine", "shardrun-cpu", "shardrun-cuda"],
    &["shardrun", "shardrun-spawn", "shardrun-worker"],
    &["shardrun-tests"],
];

/// What runs where MPI is not, and must not come near it.
const WITHOUT_MPI: &[&str] = &["shardrun", "shardrun-gateway"];
const OF_MPI: &[&str] = &["shardrun-comm", "shardrun-model", "shardrun-engine", "mpi", "mpi-sys"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None` for an ordinary one, else `dev` or `build`.
    kind: Option<String>,
}

fn cargo(arguments: &[&str]) -> anyhow::Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).args(["--offline", "--locked"]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo {arguments:?} failed:\n{errors}");
    Ok(String::from_utf8(output.stdout)?)
}

fn floor(name: &str) -> Option<usize> {
    FLOORS.iter().position(|crates| crates.contains(&name))
}

#[test]
fn crates_use_only_crates_on_floors_below() -> anyhow::Result<()> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Metadata = serde_json::from_str(&text)?;
    let names: BTreeSet<&str> = metadata.packages.iter().map(|package| &*package.name).collect();
    for name in ["shardrun", "shardrun-worker", "shardrun-tests"] {
        ensure!(names.contains(name), "{name} is not in the workspace");
    }
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let own = floor(&package.name)
            .with_context(|| format!("{} has no floor; give it one here", package.name))?;
        for used in package.dependencies.iter().filter(|used| names.contains(&*used.name)) {
            // Tests may use what their crate is used by.
            let ordinary = used.kind.as_deref() != Some("dev");
            if ordinary && floor(&used.name).is_none_or(|below| below >= own) {
                wrong.push(format!("{} on floor {own} uses {}", package.name, used.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn the_launcher_and_the_gateway_never_reach_mpi() -> anyhow::Result<()> {
    let reached = |name: &str| -> anyhow::Result<BTreeSet<String>> {
        let tree = cargo(&["tree", "-p", name, "-e", "normal,build", "--prefix", "none"])?;
        Ok(tree.lines().filter_map(|line| Some(line.split(' ').next()?.to_owned())).collect())
    };
    let worker = reached("shardrun-worker")?;
    for name in OF_MPI {
        ensure!(worker.contains(*name), "{name} would be found in the worker's tree");
    }
    let reaches: BTreeMap<_, Vec<_>> = WITHOUT_MPI
        .iter()
        .map(|name| {
            let reached = reached(name)?;
            Ok((name, OF_MPI.iter().filter(|of| reached.contains(**of)).collect()))
        })
        .collect::<anyhow::Result<_>>()?;
    ensure!(reaches.values().all(Vec::is_empty), "{reaches:?}");
    Ok(())
}
