//! `shardrun doctor`: does this machine, or a compute node, have what a deployment needs?

use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};
use serde::{Deserialize, Serialize};
use shardrun_config::Deployment;
use shardrun_slurm::directive_name;

use super::print_json;
use super::render::this_program;
use crate::cli::{DeploymentArgs, DoctorArgs};
use crate::doctor::{Finding, Grade, Patient};
use crate::{nodes, programs};

/// How long to wait for a compute node, in seconds.
const NODE_WAIT_S: u32 = 120;

/// What was found on one machine.
#[derive(Debug, Serialize, Deserialize)]
struct Report {
    host: String,
    findings: Vec<Finding>,
}

pub(crate) fn run(args: &DoctorArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let deployment = match &args.file {
        Some(file) => {
            let set = args.set.clone();
            let args = DeploymentArgs { file: file.clone(), set, ..DeploymentArgs::default() };
            Some(args.load()?.deployment)
        }
        None => None,
    };
    let report = match args.on_node {
        true => on_node(args, deployment.as_ref())?,
        false => {
            Report { host: nodes::host()?, findings: Patient::new(deployment.as_ref()).examine()? }
        }
    };
    match args.json {
        true => print_json(out, &report)?,
        false => report.print(out)?,
    }
    let failures = report.findings.iter().filter(|it| it.grade == Grade::Failure).count();
    match failures {
        0 => Ok(()),
        1 => bail!("1 failure on {}", report.host),
        _ => bail!("{failures} failures on {}", report.host),
    }
}

impl Report {
    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        writeln!(out, "{}", self.host)?;
        let width = self.findings.iter().map(|it| it.what.chars().count()).max().unwrap_or(0);
        for Finding { what, grade, found, advice } in &self.findings {
            writeln!(out, "  {:7}  {what:width$}  {found}", grade.as_str())?;
            if let Some(advice) = advice {
                writeln!(out, "  {:7}  {:width$}  -> {advice}", "", "")?;
            }
        }
        out.flush()
    }
}

/// Runs the same on a compute node, as a short step where the deployment's job would go.
fn on_node(args: &DoctorArgs, deployment: Option<&Deployment>) -> anyhow::Result<Report> {
    let srun = programs::starter(crate::starter::Kind::Srun)
        .with_context(|| programs::no_starter(crate::starter::Kind::Srun))?;
    let mut command = Command::new(srun);
    command.args(step_options(deployment)).arg(this_program()?).arg("doctor").arg("--json");
    if let Some(file) = &args.file {
        command.arg(std::path::absolute(file)?);
    }
    for (key, value) in &args.set {
        command.arg("--set").arg(format!("{key}={value}"));
    }
    eprintln!("waiting up to {NODE_WAIT_S} s for a compute node");
    let output =
        command.stdin(Stdio::null()).stderr(Stdio::piped()).output().context("cannot run srun")?;
    let said = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&said).ok().with_context(|| {
        let errors = String::from_utf8_lossy(&output.stderr);
        format!("no compute node could be looked at ({}):\n{}", output.status, errors.trim_end())
    })
}

/// Options of srun that lead to such a node as the deployment's job would get.
fn step_options(deployment: Option<&Deployment>) -> Vec<String> {
    let mut options: Vec<String> = ["--nodes=1", "--ntasks=1", "--mpi=none", "--quiet", "--time=5"]
        .map(str::to_owned)
        .to_vec();
    options.push(format!("--immediate={NODE_WAIT_S}"));
    options.push("--job-name=shardrun-doctor".to_owned());
    let Some(slurm) = deployment.map(|deployment| &deployment.slurm) else { return options };
    let texts = [
        ("partition", &slurm.partition),
        ("account", &slurm.account),
        ("qos", &slurm.qos),
        ("constraint", &slurm.constraint),
        ("nodelist", &slurm.nodelist),
        ("exclude", &slurm.exclude),
        ("reservation", &slurm.reservation),
        ("gres", &slurm.gres),
    ];
    let skipped =
        |name: &str| slurm.skip_directives.iter().any(|skip| directive_name(skip) == name);
    for (name, text) in texts {
        if let Some(text) = text.as_ref().filter(|_| !skipped(name)) {
            options.push(format!("--{name}={text}"));
        }
    }
    if let Some(gpus) = slurm.gpus_per_node.filter(|_| !skipped("gpus-per-node")) {
        options.push(format!("--gpus-per-node={gpus}"));
    }
    options
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_to_do() {
        let report = Report {
            host: "n1".into(),
            findings: vec![
                Finding::ok("slurm", "version 22.05.8"),
                Finding::failure("port", "127.0.0.1:8000 is in use", "take another"),
            ],
        };
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "n1\n  ok       slurm  version 22.05.8\n  failure  port   127.0.0.1:8000 is in use\n\
             \x20                 -> take another\n"
        );
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap().findings, report.findings);
    }

    #[test]
    fn a_step_goes_where_the_job_would() {
        let text = "name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\nslurm.partition = \"gpu\"\n\
                    slurm.account = \"lab\"\nslurm.gpus_per_node = 2\nslurm.skip_directives = [\"--account=lab\"]\n";
        let deployment = Deployment::from_resolved_toml(text).unwrap();
        let options = step_options(Some(&deployment)).join(" ");
        assert!(options.ends_with("--job-name=shardrun-doctor --partition=gpu --gpus-per-node=2"));
    }
}
