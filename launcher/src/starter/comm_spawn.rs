//! The command of the process that starts an instance's ranks by MPI_Comm_spawn. Pure.

use std::ffi::OsString;
use std::path::Path;

use shardrun_config::{InstanceLayout, Launch};

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

/// The command, program first. `scratch` is the folder of the MPI library's files.
pub(crate) fn argv(
    program: &Path,
    layout: &InstanceLayout,
    reach: Reach,
    launch: &Launch,
    scratch: Option<&Path>,
    worker: &[OsString],
) -> Vec<OsString> {
    let mut argv = vec![program.into(), "--ranks".into(), layout.world_size().to_string().into()];
    if reach != Reach::Here {
        let hosts = layout.hosts();
        let hosts: Vec<_> = hosts.iter().map(|(host, ranks)| format!("{host}:{ranks}")).collect();
        argv.extend(["--hosts".into(), hosts.join(",").into()]);
    }
    if reach == Reach::Hosts {
        argv.push("--add-hosts".into());
    }
    if let Some(map_by) = &launch.map_by {
        argv.extend(["--map-by".into(), map_by.into()]);
    }
    if let Some(scratch) = scratch {
        argv.extend(["--scratch".into(), scratch.into()]);
    }
    argv.push("--".into());
    argv.extend(worker.iter().cloned());
    argv
}

/// What the MPI library needs to be told, by its version's names.
pub(crate) fn variables(uid: u32, reach: Reach) -> Vec<(OsString, OsString)> {
    // The supervisor has counted the places; a library that counts cores would refuse ranks that
    // share them.
    let mut set = vec![
        ("OMPI_MCA_rmaps_base_oversubscribe", "1"),
        ("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe"),
    ];
    if uid == 0 {
        set.extend([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    }
    if reach == Reach::Here {
        // Ranks and the process that spawns them reach each other by TCP only, this being their one use
        // of it.
        set.push(("OMPI_MCA_btl_tcp_if_include", "lo"));
    }
    set.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}
