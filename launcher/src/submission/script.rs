//! A deployment's batch script.

use std::path::Path;

use anyhow::Context as _;
use shardrun_config::{AtTimeLimit, Deployment};
use shardrun_slurm::{Script, TimeLimit, WarningSignal};

use super::Size;

/// The signal that says that the time limit is near.
const TIME_LIMIT_SIGNAL: &str = "USR2";

/// The script of a run whose directory is `run`, which starts the program `shardrun`.
///
/// # Errors
/// If a value can't stand in a script, with its field.
pub(crate) fn script(
    deployment: &Deployment,
    run: &Path,
    shardrun: &Path,
    worker: Option<String>,
) -> anyhow::Result<Script> {
    let size = Size::of(deployment)?;
    let slurm = &deployment.slurm;
    let time_limit = slurm.time.as_deref().map(str::parse::<TimeLimit>).transpose()?;
    let limited = time_limit.and_then(TimeLimit::duration).is_some();
    let output = slurm.output.clone().map_or_else(|| text(&run.join(DEFAULT_OUTPUT)), Ok)?;
    // Jobs may be given an environment of their own.
    let environment = worker.map(|worker| ("SHARDRUN_WORKER".to_owned(), worker));
    Ok(Script {
        job_name: Some(deployment.name.clone()),
        partition: slurm.partition.clone(),
        account: slurm.account.clone(),
        qos: slurm.qos.clone(),
        nodes: Some(size.nodes),
        ntasks_per_node: Some(size.ntasks_per_node),
        cpus_per_task: size.cpus_per_task,
        gpus_per_node: slurm.gpus_per_node.map(|gpus| gpus.to_string()),
        gres: slurm.gres.clone(),
        mem: slurm.mem.clone(),
        time_limit,
        constraint: slurm.constraint.clone(),
        nodelist: slurm.nodelist.clone(),
        exclude: slurm.exclude.clone(),
        reservation: slurm.reservation.clone(),
        exclusive: slurm.exclusive,
        output: Some(output),
        append: true,
        // Else Slurm would not take it back.
        requeue: Some(slurm.requeue || slurm.at_time_limit == AtTimeLimit::Requeue),
        signal: limited.then(|| WarningSignal {
            name: TIME_LIMIT_SIGNAL.to_owned(),
            seconds: slurm.drain_before_s,
            batch_only: true,
        }),
        extra_directives: slurm.directives.clone(),
        skip_directives: slurm.skip_directives.clone(),
        modules: slurm.modules.clone(),
        prologue: slurm.prologue.clone(),
        environment: environment.into_iter().collect(),
        command: vec![text(shardrun)?, "serve".to_owned(), "--run-dir".to_owned(), text(run)?],
        exec: true,
    })
}

/// Where a job's output goes in its run's directory.
pub(crate) const DEFAULT_OUTPUT: &str = "job-%j.out";

fn text(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(text.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::process::Command;

    use super::*;

    fn rendered(more: &str) -> String {
        let text = format!(
            "name = \"demo\"\nrun.dir = \"/scratch/ada/runs\"\nmodel.source = \"/m.gguf\"\n{more}"
        );
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let run = Path::new("/scratch/ada/runs/demo-RUN_ID");
        let shardrun = Path::new("/opt/shardrun/bin/shardrun");
        script(&deployment, run, shardrun, None).unwrap().render().unwrap()
    }

    const FULL: &str = r#"
model.tp_size = 8
model.threads = 6
[slurm]
partition = "gpu"
account = "lab"
qos = "serve"
nodes = 2
gpus_per_node = 4
gres = "nvme:1"
mem = "512G"
time = "1-12"
constraint = "ib"
exclude = "g[07,09]"
reservation = "maint"
exclusive = true
requeue = true
drain_before_s = 300
directives = ["--mail-type=END,FAIL", "--comment=\"two words\""]
skip_directives = ["reservation"]
modules = ["openmpi/4.1"]
prologue = "ulimit -l unlimited\nexport SITE=fast"
"#;

    #[test]
    fn scripts_are_as_they_were() {
        assert_eq!(rendered(""), include_str!("../../tests/golden/minimal.sbatch"));
        assert_eq!(rendered(FULL), include_str!("../../tests/golden/full.sbatch"));
    }

    #[test]
    fn a_job_that_goes_back_to_the_queue_may() {
        assert!(rendered("").contains("#SBATCH --no-requeue\n"));
        for more in ["slurm.requeue = true", "slurm.at_time_limit = \"requeue\""] {
            assert!(rendered(more).contains("#SBATCH --requeue\n"), "{more}");
        }
        assert!(rendered("slurm.at_time_limit = \"successor\"").contains("#SBATCH --no-requeue\n"));
    }

    #[test]
    fn no_script_is_a_job_array() {
        let text = "name = \"demo\"\nrun.dir = \"/r\"\nmodel.source = \"/m\"\nslurm.directives = [\"--array=0-3\"]";
        let deployment = Deployment::from_resolved_toml(text).unwrap();
        let path = Path::new("/r/d");
        let error = script(&deployment, path, path, None).unwrap_err().to_string();
        assert!(error.starts_with("slurm.directives: a job array is not possible"), "{error}");
    }

    #[test]
    fn shellcheck_has_nothing_to_say() {
        if Command::new("shellcheck").arg("--version").output().is_err() {
            println!("skipped: shellcheck is not installed");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        for (name, more) in [("minimal", ""), ("full", FULL)] {
            let path = folder.path().join(name);
            std::fs::write(&path, rendered(more)).unwrap();
            let output = Command::new("shellcheck").arg(&path).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{name}: {said}");
        }
    }

    #[test]
    fn a_limit_brings_a_signal_unless_it_is_none() {
        assert!(rendered("slurm.time = \"30\"").contains("#SBATCH --signal=B:USR2@120\n"));
        let unlimited = rendered("slurm.time = \"UNLIMITED\"");
        assert!(unlimited.contains("--time=UNLIMITED\n") && !unlimited.contains("--signal"));
    }
}
