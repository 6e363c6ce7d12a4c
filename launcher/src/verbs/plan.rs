//! `shardrun plan`: what `serve` would do, without doing it.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;

use serde::Serialize;
use shardrun_config::{Deployment, Layout, Model, RunDir};
use shardrun_wire::Address;

use crate::cli::PlanArgs;
use crate::fetch::{self, ModelState};
use crate::job::InJob;
use crate::nodes::{self, Nodes};
use crate::programs;
use crate::starter::{self, Generation, Kind, Starter, shell_line};

/// Stands where a run's id will be.
const RUN_ID: &str = "RUN_ID";

pub(crate) fn run(args: &PlanArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = args.deployment.load()?.deployment;
    let look = |model: &Model| fetch::look(&model.source, model.sha256.as_ref());
    let models = deployment.models.iter().map(look).collect::<Result<Vec<_>, _>>()?;
    let in_job = InJob::find()?;
    let kind = starter::kind(&deployment, in_job.is_some());
    let here = Here {
        nodes: Nodes::find(&deployment, in_job.as_ref().map(InJob::allocation))?,
        host: nodes::host()?,
        uid: nix::unistd::getuid().as_raw(),
        kind,
        starter: programs::starter(kind),
        worker: programs::worker(),
    };
    let plan = Plan::new(&deployment, models, here)?;
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

/// What there is to start it with.
struct Here {
    nodes: Nodes,
    host: String,
    uid: u32,
    kind: Kind,
    starter: Option<PathBuf>,
    worker: Option<PathBuf>,
}

#[derive(Serialize)]
struct Plan {
    name: String,
    mode: &'static str,
    models: Vec<PlannedModel>,
    ranks: Vec<PlannedRank>,
    http: String,
    metrics: String,
    run_dir: String,
    log_dir: String,
    shm_prefix: String,
    /// The command that starts each instance.
    launch: Vec<PlannedLaunch>,
    /// What a start would lack, each with what to do.
    missing: Vec<String>,
}

#[derive(Serialize)]
struct PlannedModel {
    name: String,
    instances: usize,
    source: String,
    path: String,
    /// `here`, `to fetch` or `missing`.
    state: &'static str,
    size_bytes: Option<u64>,
}

#[derive(Serialize)]
struct PlannedRank {
    instance: String,
    rank: usize,
    host: String,
    local_rank: usize,
    threads: usize,
    /// `None` if the rank is not bound to processors.
    cores: Option<Vec<usize>>,
    gpu: Option<u32>,
    shm_prefix: String,
}

#[derive(Serialize)]
struct PlannedLaunch {
    instance: String,
    command: Vec<String>,
    line: String,
}

impl Plan {
    fn new(deployment: &Deployment, models: Vec<ModelState>, here: Here) -> anyhow::Result<Self> {
        let layout = Layout::new(deployment, &here.nodes.allocation)?;
        let missing = missing(deployment, &models, &here);
        let run_dir = RunDir::path_of(deployment, RUN_ID);
        let log_dir = deployment.run.log_dir.clone().unwrap_or_else(|| run_dir.join("logs"));
        let shm_prefix = match &deployment.run.shm_prefix {
            Some(prefix) => prefix.to_string(),
            None => format!("shardrun_{}_{RUN_ID}_", here.uid),
        };
        let mut named = deployment.clone();
        named.run.shm_prefix = shardrun_config::ShmPrefix::parse(&shm_prefix);
        let starter = Starter {
            kind: here.kind,
            program: here.starter.unwrap_or_else(|| here.kind.program().into()),
            worker: here.worker.unwrap_or_else(|| programs::WORKER.into()),
            placements: Generation {
                deployment: named.clone(),
                layout: layout.clone(),
                config: run_dir.join("deployment.toml"),
            }
            .placements(),
            supervisor: vec![Address::Unix(run_dir.join("lifeline"))],
            host: here.host,
            slots: here.nodes.here.as_ref().map(|here| here.slots),
            job_nodes: here.nodes.job_nodes,
            uid: here.uid,
        };
        let instance_of = |number| deployment.instance_name(number);
        let launch = (0..layout.instances.len()).map(|number| {
            let argv: Vec<OsString> = starter.command(number as u32, 0)?.argv;
            let line = shell_line(&argv);
            let command = argv.into_iter().map(|word| word.to_string_lossy().into_owned());
            Ok(PlannedLaunch { instance: instance_of(number), command: command.collect(), line })
        });
        let launch = launch.collect::<anyhow::Result<_>>()?;
        let ranks = layout.instances.iter().enumerate().flat_map(|(number, instance)| {
            let prefix = named.instance_prefix(number).unwrap_or_default();
            instance.ranks.iter().map(move |place| PlannedRank {
                instance: instance_of(number),
                rank: place.rank,
                host: place.host.clone(),
                local_rank: place.local_rank,
                threads: place.threads,
                cores: place.cores.clone(),
                gpu: place.gpu,
                shm_prefix: format!("{prefix}{}_", place.rank),
            })
        });
        let models = deployment.models.iter().zip(models);
        Ok(Self {
            name: deployment.name.clone(),
            mode: deployment.mode.as_str(),
            models: models.map(|(model, state)| PlannedModel::new(model, state)).collect(),
            ranks: ranks.collect(),
            http: layout.http.to_string(),
            metrics: layout.metrics.to_string(),
            run_dir: run_dir.display().to_string(),
            log_dir: log_dir.display().to_string(),
            shm_prefix,
            launch,
            missing,
        })
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let ranks = match self.ranks.len() {
            1 => "1 rank".to_owned(),
            n => format!("{n} ranks"),
        };
        writeln!(out, "{}: {ranks}, {} mode\n", self.name, self.mode)?;
        for model in &self.models {
            let instances = match model.instances {
                1 => String::new(),
                instances => format!(", {instances} instances"),
            };
            writeln!(out, "model    {}: {}{instances}", model.name, model.source)?;
            writeln!(out, "         {}", model.standing())?;
        }
        writeln!(out, "API      {}", self.http)?;
        writeln!(out, "metrics  {}", self.metrics)?;
        writeln!(out, "run      {}", self.run_dir)?;
        writeln!(out, "logs     {}", self.log_dir)?;
        writeln!(out, "memory   {}...\n", self.shm_prefix)?;
        let widest = |text: fn(&PlannedRank) -> &str, least: usize| {
            self.ranks.iter().map(|rank| text(rank).len()).max().unwrap_or(0).max(least)
        };
        let (instance, host) = (widest(|rank| &rank.instance, 8), widest(|rank| &rank.host, 4));
        writeln!(
            out,
            "{:instance$}  rank  {:host$}  local rank  threads  cores",
            "instance", "node"
        )?;
        for rank in &self.ranks {
            let cores = rank.cores.as_deref().map_or_else(|| "not bound".to_owned(), ranges);
            writeln!(
                out,
                "{:instance$}  {:4}  {:host$}  {:10}  {:7}  {cores}",
                rank.instance, rank.rank, rank.host, rank.local_rank, rank.threads
            )?;
        }
        writeln!(out, "\nlaunch")?;
        self.launch.iter().try_for_each(|launch| writeln!(out, "  {}", launch.line))
    }
}

impl PlannedModel {
    fn new(model: &Model, state: ModelState) -> Self {
        let (state, path, size_bytes) = match state {
            ModelState::Here { path, size_bytes } => ("here", path, Some(size_bytes)),
            ModelState::ToFetch { into } => ("to fetch", into, None),
            ModelState::Missing { path } => ("missing", path, None),
        };
        Self {
            name: model.name.clone(),
            instances: model.instances,
            source: model.source.to_string(),
            path: path.display().to_string(),
            state,
            size_bytes,
        }
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

fn missing(deployment: &Deployment, models: &[ModelState], here: &Here) -> Vec<String> {
    let mut missing = Vec::new();
    for (model, state) in deployment.models.iter().zip(models) {
        if let ModelState::Missing { path } = state {
            missing.push(format!("source of model {}: no file {}", model.name, path.display()));
        }
    }
    if here.starter.is_none() && here.kind != Kind::Worker {
        missing.push(programs::no_starter(here.kind));
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
    use shardrun_config::{Allocation, NodeAllocation};

    use super::*;
    use crate::nodes::ThisNode;

    fn plan(model: ModelState, worker: Option<&str>) -> Plan {
        let text = "name = \"demo\"\nmodel.source = \"pypi:p==1/m.gguf\"\nmodel.tp_size = 2\n\
                    model.threads = 1\nrun.dir = \"/state/shardrun\"\nmodel.sha256 = ";
        let text = format!("{text}\"{}\"", "0".repeat(64));
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let cores = vec![0, 1, 2, 5];
        let node = NodeAllocation { host: "node7".into(), cores, cpu_limit: None, slots: None };
        let here = Some(ThisNode { allocation: node.clone(), slots: 4 });
        let here = Here {
            nodes: Nodes { allocation: Allocation { nodes: vec![node] }, here, job_nodes: None },
            host: "node7".into(),
            uid: 1000,
            kind: Kind::Mpirun,
            starter: Some("/usr/bin/mpirun".into()),
            worker: worker.map(Into::into),
        };
        Plan::new(&deployment, vec![model], here).unwrap()
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
demo: 2 ranks, leader mode

model    demo: pypi:p==1/m.gguf
         to be downloaded to /c/m.gguf
API      127.0.0.1:8000
metrics  127.0.0.1:8002
run      /state/shardrun/demo-RUN_ID
logs     /state/shardrun/demo-RUN_ID/logs
memory   shardrun_1000_RUN_ID_...

instance  rank  node   local rank  threads  cores
demo.0       0  node7           0        1  0-1
demo.0       1  node7           1        1  2,5

launch
  /usr/bin/mpirun -n 2 --bind-to none /opt/shardrun-worker --config /state/shardrun/demo-RUN_ID/deployment.toml --supervisor unix:/state/shardrun/demo-RUN_ID/lifeline --supervisor-host node7 --instance 0 --attempt 0
"
        );
        assert!(plan.missing.is_empty());
        let json = serde_json::to_value(&plan).unwrap();
        assert_eq!(json["ranks"][1]["cores"], serde_json::json!([2, 5]));
        assert_eq!(json["ranks"][1]["shm_prefix"], "shardrun_1000_RUN_ID_1_");
        assert_eq!(json["launch"][0]["command"][1], "-n");
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
                "source of model demo: no file /m.gguf",
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
