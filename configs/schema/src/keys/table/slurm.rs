//! Keys of the batch job.

use crate::keys::{Fallback, Key};
use crate::kind::Kind;
use crate::{AtTimeLimit, ContainerRuntime};

pub(super) const KEYS: &[Key] = &[
    Key {
        path: "slurm.mpi",
        kind: Kind::Text,
        fallback: Fallback::Is("pmix"),
        doc: "The MPI plugin of srun, for `--mpi`; `srun --mpi=list` tells which there are.",
    },
    Key {
        path: "slurm.partition",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--partition`.",
    },
    Key {
        path: "slurm.account",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--account`.",
    },
    Key {
        path: "slurm.qos",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--qos`.",
    },
    Key {
        path: "slurm.nodes",
        kind: Kind::Integer { min: 1, max: 65536 },
        fallback: Fallback::Absent("as many as the ranks need"),
        doc: "`--nodes`.",
    },
    Key {
        path: "slurm.ntasks_per_node",
        kind: Kind::Integer { min: 1, max: 1024 },
        fallback: Fallback::Absent("the ranks shared evenly by the nodes"),
        doc: "`--ntasks-per-node`.",
    },
    Key {
        path: "slurm.cpus_per_task",
        kind: Kind::Integer { min: 1, max: 4096 },
        fallback: Fallback::Absent("`model.threads`, if that is a number"),
        doc: "`--cpus-per-task`.",
    },
    Key {
        path: "slurm.gpus_per_node",
        kind: Kind::Integer { min: 1, max: 64 },
        fallback: Fallback::Absent("the site's"),
        doc: "`--gpus-per-node`.",
    },
    Key {
        path: "slurm.gres",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--gres`, as in `gpu:h100:4`.",
    },
    Key {
        path: "slurm.mem",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--mem`, memory of a node, as in `64G`.",
    },
    Key {
        path: "slurm.time",
        kind: Kind::SlurmTime,
        fallback: Fallback::Absent("the site's"),
        doc: "`--time`, as in `30`, `4:00:00` or `1-00:00:00`.",
    },
    Key {
        path: "slurm.constraint",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--constraint`.",
    },
    Key {
        path: "slurm.nodelist",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--nodelist`.",
    },
    Key {
        path: "slurm.exclude",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--exclude`.",
    },
    Key {
        path: "slurm.reservation",
        kind: Kind::Text,
        fallback: Fallback::Absent("the site's"),
        doc: "`--reservation`.",
    },
    Key {
        path: "slurm.array",
        kind: Kind::Text,
        fallback: Fallback::Absent("one job"),
        doc: "`--array`; refused, since a run has one directory and one address: serve several \
              `model.instances`, or submit once for each.",
    },
    Key {
        path: "slurm.exclusive",
        kind: Kind::Bool,
        fallback: Fallback::Is("false"),
        doc: "`--exclusive`.",
    },
    Key {
        path: "slurm.output",
        kind: Kind::Text,
        fallback: Fallback::Absent("`job-%j.out` in the run's directory"),
        doc: "`--output` of the job; `%j` is its id.",
    },
    Key {
        path: "slurm.requeue",
        kind: Kind::Bool,
        fallback: Fallback::Is("false"),
        doc: "`--requeue`: after preemption or a node's failure the job waits again, and goes on \
              with its run directory.",
    },
    Key {
        path: "slurm.max_requeues",
        kind: Kind::Integer { min: 0, max: 10_000 },
        fallback: Fallback::Is("10"),
        doc: "How many times a job is started again at most, by Slurm or as a successor.",
    },
    Key {
        path: "slurm.at_time_limit",
        kind: Kind::Word(AtTimeLimit::WORDS),
        fallback: Fallback::Is("end"),
        doc: "What follows when the time limit comes near and the job has drained: `end`, `requeue` \
              the same job (which then has `--requeue`), or submit a `successor`.",
    },
    Key {
        path: "slurm.drain_before_s",
        kind: Kind::Integer { min: 5, max: 86_400 },
        fallback: Fallback::Is("120"),
        doc: "How many seconds before the time limit the job begins to drain.",
    },
    Key {
        path: "slurm.directives",
        kind: Kind::Texts { most: 256 },
        fallback: Fallback::Absent("none"),
        doc: "Further directives, as they are: `[\"--mail-type=END\"]`.",
    },
    Key {
        path: "slurm.skip_directives",
        kind: Kind::Texts { most: 64 },
        fallback: Fallback::Absent("none"),
        doc: "Directives that the site refuses, by name: `[\"gpus-per-node\"]`.",
    },
    Key {
        path: "slurm.srun_args",
        kind: Kind::Texts { most: 256 },
        fallback: Fallback::Absent("none"),
        doc: "Further arguments for each srun, as they are.",
    },
    Key {
        path: "slurm.modules",
        kind: Kind::Texts { most: 64 },
        fallback: Fallback::Absent("none"),
        doc: "Environment modules that the script loads, in order.",
    },
    Key {
        path: "slurm.prologue",
        kind: Kind::Lines { most: 1000 },
        fallback: Fallback::Absent("none"),
        doc: "Lines of shell that run before the launch.",
    },
    Key {
        path: "slurm.container",
        kind: Kind::Text,
        fallback: Fallback::Absent("none"),
        doc: "Image that ranks run in: a file, or what the runtime takes.",
    },
    Key {
        path: "slurm.container_runtime",
        kind: Kind::Word(ContainerRuntime::WORDS),
        fallback: Fallback::Is("pyxis"),
        doc: "What runs the image: `pyxis` by srun's own options, or `apptainer`.",
    },
    Key {
        path: "slurm.container_mounts",
        kind: Kind::Texts { most: 256 },
        fallback: Fallback::Absent("none"),
        doc: "Mounts of the container, `FROM:TO` or `FROM:TO:ro`; the run's directory, the \
              logs, the models' folders and the worker are mounted in any case.",
    },
    Key {
        path: "slurm.container_workdir",
        kind: Kind::Text,
        fallback: Fallback::Absent("the image's"),
        doc: "Working directory in the container.",
    },
];
