//! The command that starts a step.

use crate::script::{bad, check, positive};
use crate::{Container, SlurmError, hostlist};

/// A step in the making. Nodes and tasks are always said: a step would else take what the job was
/// submitted with.
///
/// Every step has `--overlap`, without which it waits for the steps before it, `-K1`, without which
/// survivors of a killed task hang, and `--export=ALL`: variables for the tasks are set for srun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srun {
    /// `--nodes`.
    pub nodes: u32,
    /// `--ntasks`.
    pub ntasks: u32,
    /// `--ntasks-per-node`.
    pub ntasks_per_node: Option<u32>,
    /// `--nodelist`, as names; all of the step's nodes, or none. Slurm numbers the tasks by its own
    /// order of nodes, not by this one.
    pub nodelist: Vec<String>,
    /// `--mpi`: the plugin.
    pub mpi: Option<String>,
    /// `--cpus-per-task`.
    pub cpus_per_task: Option<u32>,
    /// `--cpu-bind`. On a cluster without binding, srun complains about `none` and goes on.
    pub cpu_bind: Option<String>,
    /// `--gpu-bind`. Without it, tasks of a step that asks for GPUs per node see all of them there.
    /// With `none`, Slurm 22.05 leaves `CUDA_VISIBLE_DEVICES` unset, so that tasks see other jobs'
    /// GPUs where no control group hides them.
    pub gpu_bind: Option<String>,
    /// `--gpus-per-node`.
    pub gpus_per_node: Option<String>,
    /// `--gres`.
    pub gres: Option<String>,
    /// `--mem`.
    pub mem: Option<String>,
    /// `--job-name`: the step's.
    pub job_name: Option<String>,
    /// `--chdir`.
    pub chdir: Option<String>,
    /// `--output`; `%t` is the task, `%N` the node.
    pub output: Option<String>,
    /// `--error`.
    pub error: Option<String>,
    /// `--open-mode=append`.
    pub append: bool,
    /// `--unbuffered`.
    pub unbuffered: bool,
    /// `--label`: each line begins with the task's number.
    pub label: bool,
    /// More options, verbatim.
    pub options: Vec<String>,
    /// What the tasks run in.
    pub container: Option<Container>,
    /// What each task runs.
    pub command: Vec<String>,
}

impl Srun {
    /// The command, program first.
    ///
    /// # Errors
    ///
    /// [`SlurmError::BadValue`] with the field: no nodes, fewer tasks than nodes, more or fewer names
    /// than nodes, no command, a text with control characters.
    pub fn argv(&self) -> Result<Vec<String>, SlurmError> {
        self.check()?;
        let mut argv: Vec<String> =
            ["srun", "--overlap", "-K1", "--export=ALL"].map(Into::into).into();
        let nodelist = hostlist::compress(&self.nodelist);
        let texts = [
            ("mpi", self.mpi.as_deref()),
            ("nodelist", Some(&*nodelist).filter(|list| !list.is_empty())),
            ("cpu-bind", self.cpu_bind.as_deref()),
            ("gpu-bind", self.gpu_bind.as_deref()),
            ("gpus-per-node", self.gpus_per_node.as_deref()),
            ("gres", self.gres.as_deref()),
            ("mem", self.mem.as_deref()),
            ("job-name", self.job_name.as_deref()),
            ("chdir", self.chdir.as_deref()),
            ("output", self.output.as_deref()),
            ("error", self.error.as_deref()),
        ];
        let counts = [
            ("nodes", Some(self.nodes)),
            ("ntasks", Some(self.ntasks)),
            ("ntasks-per-node", self.ntasks_per_node),
            ("cpus-per-task", self.cpus_per_task),
        ];
        for (name, count) in counts {
            if let Some(count) = count {
                argv.push(format!("--{name}={}", positive(name, count)?));
            }
        }
        for (name, text) in texts {
            if let Some(text) = text {
                argv.push(format!("--{name}={}", check(name, text)?));
            }
        }
        let flags = [
            ("--open-mode=append", self.append),
            ("--unbuffered", self.unbuffered),
            ("--label", self.label),
        ];
        argv.extend(flags.iter().filter(|(_, set)| *set).map(|(flag, _)| (*flag).to_owned()));
        for option in &self.options {
            argv.push(check("srun options", option)?.to_owned());
        }
        match &self.container {
            None => argv.extend_from_slice(&self.command),
            Some(container) => {
                argv.extend(container.srun_options()?);
                argv.extend(container.wrap(&self.command)?);
            }
        }
        Ok(argv)
    }

    fn check(&self) -> Result<(), SlurmError> {
        positive("nodes", self.nodes)?;
        if self.ntasks < self.nodes {
            return Err(bad("ntasks", &self.ntasks.to_string(), "at least one for every node"));
        }
        let names = self.nodelist.len();
        if names > 0 && names != self.nodes as usize {
            return Err(bad("nodelist", &names.to_string(), "as many names as nodes, or none"));
        }
        // A name like an option would be srun's.
        match self.command.first() {
            Some(program) if !program.is_empty() && !program.starts_with('-') => Ok(()),
            other => {
                let program = other.map(String::as_str).unwrap_or_default();
                Err(bad("command", program, "a program and its arguments"))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::Runtime;

    fn step() -> Srun {
        Srun {
            nodes: 2,
            ntasks: 4,
            mpi: Some("pmix".into()),
            command: vec!["shardrun-worker".into(), "--config".into(), "/r/d.toml".into()],
            ..Srun::default()
        }
    }

    #[test]
    fn a_step_says_its_nodes_and_tasks() {
        assert_eq!(
            step().argv().unwrap().join(" "),
            "srun --overlap -K1 --export=ALL --nodes=2 --ntasks=4 --mpi=pmix shardrun-worker --config \
             /r/d.toml"
        );
    }

    #[test]
    fn options_come_in_slurms_spelling() {
        let text = |text: &str| Some(text.to_owned());
        let step = Srun {
            ntasks_per_node: Some(2),
            nodelist: vec!["g02".into(), "g03".into()],
            cpus_per_task: Some(8),
            cpu_bind: text("none"),
            gpu_bind: text("none"),
            gpus_per_node: text("2"),
            gres: text("gpu:2"),
            mem: text("0"),
            job_name: text("llama.0"),
            chdir: text("/r"),
            output: text("/r/logs/%t.log"),
            error: text("/r/logs/%t.err"),
            append: true,
            unbuffered: true,
            label: true,
            options: vec!["--network=no_vni".into()],
            ..step()
        };
        assert_eq!(
            step.argv().unwrap()[4..24].join(" "),
            "--nodes=2 --ntasks=4 --ntasks-per-node=2 --cpus-per-task=8 --mpi=pmix --nodelist=g[02-03] \
             --cpu-bind=none --gpu-bind=none --gpus-per-node=2 --gres=gpu:2 --mem=0 --job-name=llama.0 \
             --chdir=/r --output=/r/logs/%t.log --error=/r/logs/%t.err --open-mode=append --unbuffered \
             --label --network=no_vni shardrun-worker"
        );
    }

    #[test]
    fn a_container_stands_between_srun_and_the_command() {
        let container = |runtime| Container {
            runtime,
            image: "i.sif".into(),
            mounts: Vec::new(),
            workdir: None,
            nvidia: false,
        };
        let argv = |runtime| {
            Srun { container: Some(container(runtime)), ..step() }.argv().unwrap()[7..].join(" ")
        };
        assert_eq!(
            argv(Runtime::Pyxis),
            "--container-image=i.sif shardrun-worker --config /r/d.toml"
        );
        assert_eq!(
            argv(Runtime::Apptainer),
            "apptainer exec i.sif shardrun-worker --config /r/d.toml"
        );
    }

    #[test]
    fn steps_that_slurm_would_change_are_refused() {
        let refusal = |change: fn(&mut Srun)| {
            let mut step = step();
            change(&mut step);
            step.argv().unwrap_err().to_string()
        };
        assert_eq!(refusal(|step| step.nodes = 0), "nodes is \"0\"; allowed: 1 and more");
        assert_eq!(
            refusal(|step| step.ntasks = 1),
            "ntasks is \"1\"; allowed: at least one for every node"
        );
        assert!(refusal(|step| step.nodelist = vec!["n1".into()]).starts_with("nodelist is \"1\""));
        assert!(refusal(|step| step.command.clear()).starts_with("command is"));
        assert!(refusal(|step| step.command[0] = "-n9".into()).starts_with("command is \"-n9\""));
        assert!(refusal(|step| step.cpus_per_task = Some(0)).starts_with("cpus-per-task is"));
        assert!(refusal(|step| step.mpi = Some("a\nb".into())).starts_with("mpi is"));
    }
}
