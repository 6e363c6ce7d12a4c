//! `shardrun plan`: what `serve` would do, without doing it.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use serde::Serialize;
use shardrun_config::{Allocation, Deployment, Layout, RunDir};

use crate::cli::PlanArgs;
use crate::fetch::{self, ModelState};
use crate::mpirun::{EXPORTED, Mpirun, shell_line};
use crate::node::{self, ThisNode};
use crate::programs;

/// Stands where a run's id will be.
const RUN_ID: &str = "RUN_ID";

pub(crate) fn run(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let model = fetch::look(&deployment.model.source, deployment.model.sha256.as_ref())?;
    let here = Here {
        node: node::here()?,
        uid: nix::unistd::getuid().as_raw(),
        mpirun: programs::mpirun().map(Into::into),
        worker: programs::worker().map(Into::into),
    };
    let plan = Plan::new(&deployment, model, here)?;
    match args.json {
        true => {
            serde_json::to_writer_pretty(&mut *out, &plan).map_err(std::io::Error::from)?;
            writeln!(out)?;
        }
        false => plan.print(out)?,
    }
    match plan.missing.as_slice() {
        [] => Ok(()),
        missing => {
            out.flush()?;
            anyhow::bail!("this cannot start yet:\n  {}", missing.join("\n  "))
        }
    }
}

/// What this machine has.
struct Here {
    node: ThisNode,
    uid: u32,
    mpirun: Option<OsString>,
    worker: Option<OsString>,
}

#[derive(Serialize)]
struct Plan {
    name: String,
    model: PlannedModel,
    ranks: Vec<PlannedRank>,
    http: String,
    metrics: String,
    run_dir: String,
    log_dir: String,
    shm_prefix: String,
    launch: Vec<String>,
    launch_line: String,
    /// What a start would lack, each with what to do.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct PlannedModel {
    source: String,
    path: String,
    /// `here`, `to fetch` or `missing`.
    state: &'static str,
    size_bytes: Option<u64>,
}

#[derive(Serialize)]
struct PlannedRank {
    rank: usize,
    host: String,
    local_rank: usize,
    threads: usize,
    /// `None` if the rank is not bound to processors.
    cores: Option<Vec<usize>>,
    shm_prefix: String,
}

impl Plan {
    fn new(deployment: &Deployment, model: ModelState, here: Here) -> anyhow::Result<Self> {
        let layout =
            Layout::new(deployment, &Allocation { nodes: vec![here.node.allocation.clone()] })?;
        let run_dir = RunDir::path_of(deployment, RUN_ID);
        let log_dir = deployment.run.log_dir.clone().unwrap_or_else(|| run_dir.join("logs"));
        let shm_prefix = match &deployment.run.shm_prefix {
            Some(prefix) => prefix.to_string(),
            None => format!("shardrun_{}_{RUN_ID}_", here.uid),
        };
        let missing = missing(&model, &here);
        let argv = Mpirun {
            program: Path::new(here.mpirun.as_deref().unwrap_or(programs::MPIRUN.as_ref())),
            layout: &layout,
            slots: &[here.node.slots],
            uid: here.uid,
            exported: EXPORTED,
            worker: Path::new(here.worker.as_deref().unwrap_or(programs::WORKER.as_ref())),
            config: &run_dir.join("deployment.toml"),
        }
        .argv();
        let ranks = layout.ranks.iter().map(|place| PlannedRank {
            rank: place.rank,
            host: place.host.clone(),
            local_rank: place.local_rank,
            threads: place.threads,
            cores: place.cores.clone(),
            shm_prefix: format!("{shm_prefix}{}_", place.rank),
        });
        Ok(Self {
            name: deployment.name.clone(),
            model: PlannedModel::new(&deployment.model.source, model),
            ranks: ranks.collect(),
            http: layout.http.to_string(),
            metrics: layout.metrics.to_string(),
            run_dir: run_dir.display().to_string(),
            log_dir: log_dir.display().to_string(),
            shm_prefix,
            launch_line: shell_line(&argv),
            launch: argv.into_iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            missing,
        })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let ranks = match self.ranks.len() {
            1 => "1 rank".to_owned(),
            n => format!("{n} ranks"),
        };
        writeln!(out, "{}: {ranks}\n", self.name)?;
        writeln!(out, "model    {}", self.model.source)?;
        writeln!(out, "         {}", self.model.standing())?;
        writeln!(out, "API      {}", self.http)?;
        writeln!(out, "metrics  {}", self.metrics)?;
        writeln!(out, "run      {}", self.run_dir)?;
        writeln!(out, "logs     {}", self.log_dir)?;
        writeln!(out, "memory   {}RANK_...\n", self.shm_prefix)?;
        let host = self.ranks.iter().map(|rank| rank.host.len()).max().unwrap_or(0).max(4);
        writeln!(out, "rank  {:host$}  local rank  threads  cores", "node")?;
        for rank in &self.ranks {
            let cores = rank.cores.as_deref().map_or_else(|| "not bound".to_owned(), ranges);
            writeln!(
                out,
                "{:4}  {:host$}  {:10}  {:7}  {cores}",
                rank.rank, rank.host, rank.local_rank, rank.threads
            )?;
        }
        writeln!(out, "\nlaunch\n  {}", self.launch_line)
    }
}

impl PlannedModel {
    fn new(source: &shardrun_config::ModelSource, state: ModelState) -> Self {
        let (state, path, size_bytes) = match state {
            ModelState::Here { path, size_bytes } => ("here", path, Some(size_bytes)),
            ModelState::ToFetch { into } => ("to fetch", into, None),
            ModelState::Missing { path } => ("missing", path, None),
        };
        Self { source: source.to_string(), path: path.display().to_string(), state, size_bytes }
    }

    fn standing(&self) -> String {
        let size = self.size_bytes.map(indicatif::DecimalBytes);
        match size {
            Some(size) if self.source == self.path => format!("{size}"),
            Some(size) => format!("cached, {size}: {}", self.path),
            None if self.state == "missing" => "no such file".to_owned(),
            None => format!("to be downloaded to {}", self.path),
        }
    }
}

fn missing(model: &ModelState, here: &Here) -> Vec<String> {
    let mut missing = Vec::new();
    if let ModelState::Missing { path } = model {
        missing.push(format!("model.source: no file {}", path.display()));
    }
    if here.mpirun.is_none() {
        missing.push(format!(
            "no {} on PATH: load an MPI module, or install openmpi-bin",
            programs::MPIRUN
        ));
    }
    if here.worker.is_none() {
        missing.push(format!(
            "no {} beside this program or on PATH: build it, or set SHARDRUN_WORKER",
            programs::WORKER
        ));
    }
    missing
}

/// Numbers in order, as `0-3,8`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [first, .., last] => format!("{first}-{last}"),
        run => run.iter().map(ToString::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::NodeAllocation;

    use super::*;

    fn plan(model: ModelState, worker: Option<&str>) -> Plan {
        let text = "name = \"demo\"\nmodel.source = \"pypi:p==1/m.gguf\"\nmodel.tp_size = 2\n\
                    model.threads = 1\nrun.dir = \"/state/shardrun\"\nmodel.sha256 = ";
        let text = format!("{text}\"{}\"", "0".repeat(64));
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let cores = vec![0, 1, 2, 5];
        let allocation = NodeAllocation { host: "node7".into(), cores, cpu_limit: None };
        let here = Here {
            node: ThisNode { allocation, slots: 4 },
            uid: 1000,
            mpirun: Some("/usr/bin/mpirun".into()),
            worker: worker.map(Into::into),
        };
        Plan::new(&deployment, model, here).unwrap()
    }

    fn printed(plan: &Plan) -> String {
        let mut out = Vec::new();
        plan.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_plan_says_everything_that_a_start_will_do() {
        let model = ModelState::ToFetch { into: "/c/m.gguf".into() };
        let plan = plan(model, Some("/opt/shardrun-worker"));
        assert_eq!(
            printed(&plan),
            "\
demo: 2 ranks

model    pypi:p==1/m.gguf
         to be downloaded to /c/m.gguf
API      127.0.0.1:8000
metrics  127.0.0.1:8002
run      /state/shardrun/demo-RUN_ID
logs     /state/shardrun/demo-RUN_ID/logs
memory   shardrun_1000_RUN_ID_RANK_...

rank  node   local rank  threads  cores
   0  node7           0        1  0-1
   1  node7           1        1  2,5

launch
  /usr/bin/mpirun -n 2 --bind-to none /opt/shardrun-worker --config /state/shardrun/demo-RUN_ID/deployment.toml
"
        );
        assert!(plan.missing.is_empty());
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["ranks"][1]["cores"], serde_json::json!([2, 5]));
        assert_eq!(json["ranks"][1]["shm_prefix"], "shardrun_1000_RUN_ID_1_");
        assert_eq!(json["launch"][1], "-n");
    }

    #[test]
    fn a_cached_model_has_its_size() {
        let model = ModelState::Here { path: "/c/m.gguf".into(), size_bytes: 98_362_432 };
        let text = printed(&plan(model, Some("w")));
        assert!(text.contains("\n         cached, 98.36 MB: /c/m.gguf\n"), "{text}");
    }

    #[test]
    fn what_is_missing_is_named() {
        let plan = plan(ModelState::Missing { path: "/m.gguf".into() }, None);
        assert_eq!(
            plan.missing,
            [
                "model.source: no file /m.gguf",
                "no shardrun-worker beside this program or on PATH: build it, or set SHARDRUN_WORKER",
            ]
        );
        assert!(printed(&plan).contains("no such file"));
    }

    #[test]
    fn cores_are_told_as_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 3, 8, 10, 11]), "0-3,8,10-11");
        assert_eq!(ranges(&[]), "");
    }
}
