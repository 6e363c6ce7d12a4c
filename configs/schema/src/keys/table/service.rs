//! Keys of what serves the models, and keeps them alive.

use super::DAY_MS;
use crate::keys::{Fallback, Key};
use crate::kind::Kind;
use crate::{LogLevel, Spawner, Starter};

pub(super) const KEYS: &[Key] = &[
    Key {
        path: "server.host",
        kind: Kind::Address,
        fallback: Fallback::Is("127.0.0.1"),
        doc: "Address to listen on. One beyond loopback needs `server.allow_remote = true`.",
    },
    Key {
        path: "server.allow_remote",
        kind: Kind::Bool,
        fallback: Fallback::Is("false"),
        doc: "Whether `server.host` may be beyond loopback, where anyone who reaches the port is \
              served.",
    },
    Key {
        path: "server.http_port",
        kind: Kind::Integer { min: 0, max: 65535 },
        fallback: Fallback::Is("8000"),
        doc: "Port of the API; 0 takes any free one.",
    },
    Key {
        path: "server.metrics_port",
        kind: Kind::Integer { min: 0, max: 65535 },
        fallback: Fallback::Is("8002"),
        doc: "Port of `/metrics`; 0 takes any free one.",
    },
    Key {
        path: "server.max_body_bytes",
        kind: Kind::Integer { min: 1024, max: 1 << 30 },
        fallback: Fallback::Is("67108864"),
        doc: "Largest request body, in bytes.",
    },
    Key {
        path: "run.dir",
        kind: Kind::Path,
        fallback: Fallback::StateFolder,
        doc: "Folder in which each run makes its directory, `NAME-RUN_ID`.",
    },
    Key {
        path: "run.log_dir",
        kind: Kind::Path,
        fallback: Fallback::Absent("`logs` in the run's directory"),
        doc: "Folder of the ranks' logs.",
    },
    Key {
        path: "run.log_level",
        kind: Kind::Word(LogLevel::WORDS),
        fallback: Fallback::Is("info"),
        doc: "The least severe messages that are logged.",
    },
    Key {
        path: "run.shm_prefix",
        kind: Kind::ShmPrefix,
        fallback: Fallback::Absent("`shardrun_UID_RUN_`, so that no two runs of any users meet"),
        doc: "What shared-memory names begin with; the rank and `_` follow. Two deployments that \
              run on one node must not share it.",
    },
    Key {
        path: "launch.starter",
        kind: Kind::Word(Starter::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What starts ranks: `mpirun` or `srun`. `auto` is `srun` in a Slurm allocation, else \
              `mpirun`; where all instances are one rank of this machine, and neither `hosts` nor \
              `mpirun_args` is set, `shardrun serve` starts them itself, without MPI.",
    },
    Key {
        path: "launch.spawner",
        kind: Kind::Word(Spawner::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "How orchestrator mode starts an instance: `step` by a job step or an mpirun of its \
              own, `comm_spawn` by MPI_Comm_spawn from a process that does nothing else. `auto` is \
              `step`.",
    },
    Key {
        path: "launch.hosts",
        kind: Kind::Texts { most: 4096 },
        fallback: Fallback::Absent("the nodes of the allocation, or this one"),
        doc: "Nodes for mpirun, each with its slots if it has more than one, as in `[\"a:2\", \
              \"b:2\"]`.",
    },
    Key {
        path: "launch.interface",
        kind: Kind::Text,
        fallback: Fallback::Absent(
            "the address of the node's name, else its first beyond loopback",
        ),
        doc: "Network interface, or address, for what nodes say to each other. Loopback between \
              nodes is refused unless it is named here.",
    },
    Key {
        path: "launch.mpirun_args",
        kind: Kind::Texts { most: 256 },
        fallback: Fallback::Absent("none"),
        doc: "Further arguments for mpirun, as they are.",
    },
    Key {
        path: "launch.export",
        kind: Kind::Texts { most: 256 },
        fallback: Fallback::Absent("none"),
        doc: "Environment variables that mpirun hands on to other nodes; srun hands on all.",
    },
    Key {
        path: "launch.map_by",
        kind: Kind::Text,
        fallback: Fallback::Absent("the MPI library's"),
        doc: "How MPI_Comm_spawn places ranks, as in `node`.",
    },
    Key {
        path: "launch.ready_timeout_ms",
        kind: Kind::Integer { min: 1000, max: DAY_MS },
        fallback: Fallback::Is("1800000"),
        doc: "Longest time for an instance to start and load, in milliseconds.",
    },
    Key {
        path: "supervision.heartbeat_ms",
        kind: Kind::Integer { min: 10, max: 60_000 },
        fallback: Fallback::Is("500"),
        doc: "Time between a rank's heartbeats, in milliseconds.",
    },
    Key {
        path: "supervision.heartbeat_timeout_ms",
        kind: Kind::Integer { min: 30, max: 600_000 },
        fallback: Fallback::Is("5000"),
        doc: "Silence after which a rank counts as lost, in milliseconds; at least three \
              heartbeats.",
    },
    Key {
        path: "supervision.drain_timeout_ms",
        kind: Kind::Integer { min: 0, max: 3_600_000 },
        fallback: Fallback::Is("10000"),
        doc: "Time that running requests get to finish at a stop, in milliseconds.",
    },
    Key {
        path: "supervision.collective_timeout_ms",
        kind: Kind::Integer { min: 100, max: 3_600_000 },
        fallback: Fallback::Is("60000"),
        doc: "Longest wait for a peer in an iteration, in milliseconds; until an instance serves, its \
              ranks wait for each other as long as `launch.ready_timeout_ms`.",
    },
    Key {
        path: "supervision.max_restarts",
        kind: Kind::Integer { min: 0, max: 1 << 20 },
        fallback: Fallback::Is("10"),
        doc: "In orchestrator mode, how many times in a row a lost instance is started again; \
              serving for a minute ends the row.",
    },
    Key {
        path: "supervision.restart_backoff_ms",
        kind: Kind::Integer { min: 0, max: 3_600_000 },
        fallback: Fallback::Is("200"),
        doc: "Wait before the first restart, in milliseconds; it doubles with each in a row.",
    },
    Key {
        path: "supervision.restart_backoff_max_ms",
        kind: Kind::Integer { min: 0, max: 3_600_000 },
        fallback: Fallback::Is("30000"),
        doc: "Longest wait before a restart, in milliseconds.",
    },
    Key {
        path: "metrics.iter_stats_max_iterations",
        kind: Kind::Integer { min: 0, max: 1 << 20 },
        fallback: Fallback::Is("1000"),
        doc: "Most iterations whose statistics wait to be read; the oldest go first. 0 keeps none.",
    },
    Key {
        path: "metrics.request_stats_max_iterations",
        kind: Kind::Integer { min: 0, max: 100_000 },
        fallback: Fallback::Is("0"),
        doc: "Of the iterations that are kept, how many of the latest also tell of each request. \
              More than 0 allocates memory in every iteration.",
    },
];
