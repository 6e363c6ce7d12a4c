//! The command of the process that starts an instance's ranks by MPI_Comm_spawn. Pure.

use std::ffi::OsString;
use std::path::Path;

use shardrun_config::{InstanceLayout, Launch};

use super::mpirun::TRANSPORTS;

/// Variables that make a process believe that it is a task of a step, which MPI then refuses to spawn
/// from.
pub(crate) const OF_A_STEP: &[&str] = &[
    "SLURM_STEPID",
    "SLURM_STEP_ID",
    "SLURM_PROCID",
    "SLURM_NODEID",
    "SLURM_LOCALID",
    "PMIX_RANK",
    "PMIX_NAMESPACE",
    "PMI_RANK",
    "OMPI_COMM_WORLD_RANK",
];

/// Where ranks go, as far as the MPI library has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On this node.
    Here,
    /// On nodes of the Slurm job, which it knows.
    Job,
    /// On nodes that only the deployment names.
    Hosts,
}

/// What the command is made of.
#[derive(Debug)]
pub(crate) struct CommSpawn<'a> {
    /// The shardrun-spawn to run.
    pub(crate) program: &'a Path,
    /// Where the ranks go.
    pub(crate) layout: &'a InstanceLayout,
    pub(crate) reach: Reach,
    /// What the deployment says about it.
    pub(crate) launch: &'a Launch,
    /// The network between nodes, as Open MPI names it, if one is to be taken.
    pub(crate) network: Option<&'a str>,
    /// Working directory of the ranks.
    pub(crate) wdir: &'a Path,
    /// The folder of the MPI library's files.
    pub(crate) scratch: Option<&'a Path>,
    /// The command of each rank.
    pub(crate) worker: &'a [OsString],
}

impl CommSpawn<'_> {
    /// The command, program first.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        let Self { layout, launch, .. } = self;
        let mut argv = vec![self.program.into()];
        argv.extend(["--ranks".into(), layout.world_size().to_string().into()]);
        if self.reach != Reach::Here {
            let hosts = layout.hosts();
            let hosts: Vec<_> =
                hosts.iter().map(|(host, ranks)| format!("{host}:{ranks}")).collect();
            argv.extend(["--hosts".into(), hosts.join(",").into()]);
            argv.extend(launch.export.iter().flat_map(|name| ["--export".into(), name.into()]));
        }
        if self.reach == Reach::Hosts {
            argv.push("--add-hosts".into());
        }
        if let Some(map_by) = &launch.map_by {
            argv.extend(["--map-by".into(), map_by.into()]);
        }
        argv.extend(["--wdir".into(), self.wdir.into()]);
        let timeout_ms = launch.ready_timeout.as_millis();
        argv.extend(["--timeout-ms".into(), timeout_ms.to_string().into()]);
        if let Some(scratch) = self.scratch {
            argv.extend(["--scratch".into(), scratch.into()]);
        }
        argv.push("--".into());
        argv.extend(self.worker.iter().cloned());
        argv
    }

    /// What the MPI library needs to be told, by its version's names.
    pub(crate) fn variables(&self, uid: u32) -> Vec<(OsString, OsString)> {
        // The supervisor has counted the places; a library that counts cores would refuse ranks that
        // share them.
        let mut set: Vec<(OsString, OsString)> = vec![
            ("OMPI_MCA_rmaps_base_oversubscribe".into(), "1".into()),
            ("PRTE_MCA_rmaps_default_mapping_policy".into(), ":oversubscribe".into()),
        ];
        if uid == 0 {
            set.push(("OMPI_ALLOW_RUN_AS_ROOT".into(), "1".into()));
            set.push(("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM".into(), "1".into()));
        }
        match (self.reach, self.network) {
            // Ranks and the process that spawns them reach each other by TCP only, this being their one
            // use of it.
            (Reach::Here, _) => set.push(("OMPI_MCA_btl_tcp_if_include".into(), "lo".into())),
            (_, Some(network)) => set
                .extend(TRANSPORTS.map(|name| (format!("OMPI_MCA_{name}").into(), network.into()))),
            (_, None) => {}
        }
        set
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation, Deployment, Layout, NodeAllocation};

    use super::super::shell_line;
    use super::*;

    const LAUNCH: &str = "model.tp_size = 3\n[launch]\ninterface = \"10.0.0.1\"\n\
                          export = [\"A\", \"B=1\"]\nready_timeout_ms = 5000\n";

    fn said(reach: Reach) -> (String, Vec<(OsString, OsString)>) {
        let text = format!("name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n{LAUNCH}");
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let node = |host: &str| NodeAllocation {
            host: host.to_owned(),
            cores: vec![0, 1],
            cpu_limit: None,
            slots: None,
        };
        let allocation = Allocation { nodes: vec![node("a"), node("b")] };
        let layout = Layout::new(&deployment, &allocation).unwrap();
        let spawn = CommSpawn {
            program: Path::new("shardrun-spawn"),
            layout: &layout.instances[0],
            reach,
            launch: &deployment.launch,
            network: Some("10.0.0.1/16"),
            wdir: Path::new("/home/ada"),
            scratch: None,
            worker: &["/opt/shardrun-worker".into()],
        };
        (shell_line(&spawn.argv()), spawn.variables(1000))
    }

    #[test]
    fn ranks_of_several_nodes_have_what_mpirun_gives_them() {
        let (line, set) = said(Reach::Hosts);
        assert_eq!(
            line,
            "shardrun-spawn --ranks 3 --hosts a:2,b:1 --export A --export B=1 --add-hosts --wdir \
             /home/ada --timeout-ms 5000 -- /opt/shardrun-worker"
        );
        for name in ["OMPI_MCA_btl_tcp_if_include", "OMPI_MCA_oob_tcp_if_include"] {
            assert!(set.contains(&(name.into(), "10.0.0.1/16".into())), "{set:?}");
        }
    }

    #[test]
    fn ranks_of_one_node_stay_on_loopback() {
        let (line, set) = said(Reach::Here);
        assert!(!line.contains("--hosts") && !line.contains("--export"), "{line}");
        assert!(set.contains(&("OMPI_MCA_btl_tcp_if_include".into(), "lo".into())));
        assert!(!set.iter().any(|(name, _)| name == "OMPI_MCA_oob_tcp_if_include"), "{set:?}");
    }
}
