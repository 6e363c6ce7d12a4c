//! The command that starts an instance's ranks as a job step. Pure.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use shardrun_config::{Deployment, InstanceLayout};
use shardrun_slurm::Srun;

use super::container::container;

/// What a step is made of.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// The srun to run.
    pub(crate) program: &'a Path,
    /// Where the ranks go.
    pub(crate) layout: &'a InstanceLayout,
    /// The instance's name.
    pub(crate) name: &'a str,
    pub(crate) deployment: &'a Deployment,
    /// The run's directory.
    pub(crate) folder: &'a Path,
    /// The command of each rank.
    pub(crate) worker: &'a [OsString],
}

/// The nodes of the ranks, one a line, where a step can't be told otherwise how many each node has.
pub(crate) fn host_file(layout: &InstanceLayout) -> Option<String> {
    let hosts = layout.hosts();
    let even = hosts.windows(2).all(|pair| pair[0].1 == pair[1].1);
    let lines =
        || hosts.iter().flat_map(|(host, ranks)| std::iter::repeat_n(format!("{host}\n"), *ranks));
    (!even).then(|| lines().collect())
}

impl Step<'_> {
    /// The command, program first.
    pub(crate) fn argv(&self) -> anyhow::Result<Vec<OsString>> {
        let slurm = &self.deployment.slurm;
        let hosts = self.layout.hosts();
        let even = host_file(self.layout).is_none();
        let mut options = vec!["--quit-on-interrupt".to_owned()];
        if !even {
            options.push("--distribution=arbitrary".to_owned());
        }
        options.extend(slurm.srun_args.iter().cloned());
        let text = |word: &OsString| {
            word.to_str().map(str::to_owned).with_context(|| format!("{word:?} is not UTF-8"))
        };
        let worker = self.worker.first().map_or(Path::new(""), Path::new);
        let step = Srun {
            nodes: hosts.len() as u32,
            ntasks: self.layout.world_size() as u32,
            ntasks_per_node: hosts.first().filter(|_| even).map(|(_, ranks)| *ranks as u32),
            nodelist: match even {
                true => hosts.iter().map(|(host, _)| (*host).to_owned()).collect(),
                // The file is read only where there is no list.
                false => Vec::new(),
            },
            mpi: Some(slurm.mpi.clone()),
            // Ranks bind their own threads, within what the job was given.
            cpu_bind: Some("none".to_owned()),
            job_name: Some(self.name.to_owned()),
            unbuffered: true,
            options,
            container: container(self.deployment, self.folder, worker)?,
            command: self.worker.iter().map(text).collect::<anyhow::Result<_>>()?,
            ..Srun::default()
        };
        let mut argv: Vec<OsString> = step.argv()?.into_iter().map(OsString::from).collect();
        argv[0] = self.program.into();
        Ok(argv)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation, Layout, NodeAllocation};

    use super::super::shell_line;
    use super::*;

    fn deployment(text: &str) -> Deployment {
        let text = format!("name = \"d\"\nmodel.source = \"/m/a.gguf\"\nrun.dir = \"/r\"\n{text}");
        Deployment::from_resolved_toml(&text).unwrap()
    }

    fn layout(deployment: &Deployment, cores: &[usize]) -> InstanceLayout {
        let node = |(number, &cores): (usize, &usize)| NodeAllocation {
            host: format!("n{}", number + 1),
            cores: (0..cores).collect(),
            cpu_limit: None,
            slots: Some(cores),
        };
        let allocation = Allocation { nodes: cores.iter().enumerate().map(node).collect() };
        Layout::new(deployment, &allocation).unwrap().instances.remove(0)
    }

    fn line(deployment: &Deployment, cores: &[usize]) -> String {
        let step = Step {
            program: Path::new("/usr/bin/srun"),
            layout: &layout(deployment, cores),
            name: "d.0",
            deployment,
            folder: Path::new("/r/d-1"),
            worker: &["shardrun-worker".into()],
        };
        shell_line(&step.argv().unwrap())
    }

    #[test]
    fn a_step_says_where_its_ranks_go() {
        assert_eq!(
            line(&deployment("model.tp_size = 4"), &[2, 2]),
            "/usr/bin/srun --overlap -K1 --export=ALL --nodes=2 --ntasks=4 --ntasks-per-node=2 \
             --mpi=pmix '--nodelist=n[1-2]' --cpu-bind=none --job-name=d.0 --unbuffered \
             --quit-on-interrupt shardrun-worker"
        );
    }

    #[test]
    fn uneven_ranks_need_a_file() {
        let deployment = deployment("model.tp_size = 3");
        let line = line(&deployment, &[2, 2]);
        assert!(
            line.contains(" --distribution=arbitrary ") && !line.contains("nodelist"),
            "{line}"
        );
        let hosts = host_file(&layout(&deployment, &[2, 2]));
        assert_eq!(hosts.as_deref(), Some("n1\nn1\nn2\n"));
    }

    #[test]
    fn a_container_sees_the_run_and_the_model() {
        let text = "slurm.container = \"i.sqsh\"\nslurm.container_mounts = \"/data:/d:ro\"";
        let line = line(&deployment(text), &[1]);
        assert!(line.contains("--container-mounts=/r/d-1:/r/d-1,/m:/m:ro,/data:/d:ro"), "{line}");
    }
}
