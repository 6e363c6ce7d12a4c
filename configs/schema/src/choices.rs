//! What keys with a fixed set of words may be.

use serde::{Deserialize, Serialize};

/// An enum whose variants are written as words, with the list of those words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The words, as a deployment file writes them.
            pub const WORDS: &[&str] = &[$($word),+];

            /// This one's word.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// Who serves, and what follows the loss of a rank.
    Mode {
        /// Leader mode for a single instance, else orchestrator mode.
        Auto = "auto",
        /// Rank 0 of the only instance serves; the deployment ends with it.
        Leader = "leader",
        /// A gateway outside the instances' worlds serves, and lost instances are started again.
        Orchestrator = "orchestrator",
    }
}

words! {
    /// Which instance gets a request.
    Routing {
        /// The one with the fewest tokens to come.
        LeastLoaded = "least_loaded",
        /// Each in turn.
        RoundRobin = "round_robin",
        /// The one that has seen the longest part of the prompt, unless it is much busier.
        PrefixAware = "prefix_aware",
    }
}

words! {
    /// What starts ranks.
    Starter {
        /// `srun` in a Slurm allocation, else `mpirun`.
        Auto = "auto",
        /// Open MPI's mpirun.
        Mpirun = "mpirun",
        /// Slurm's srun.
        Srun = "srun",
    }
}

words! {
    /// How orchestrator mode starts an instance.
    Spawner {
        /// As a step.
        Auto = "auto",
        /// A job step, or an mpirun, of its own.
        Step = "step",
        /// MPI_Comm_spawn from a process that does nothing else.
        CommSpawn = "comm_spawn",
    }
}

words! {
    /// What a job does when it has drained before its time limit.
    AtTimeLimit {
        /// It ends.
        End = "end",
        /// It goes back to the queue.
        Requeue = "requeue",
        /// It submits a job that follows it.
        Successor = "successor",
    }
}

words! {
    /// What runs a container under Slurm.
    ContainerRuntime {
        /// The plugin of srun, with enroot.
        Pyxis = "pyxis",
        /// Apptainer, or its older name.
        Apptainer = "apptainer",
    }
}

words! {
    /// Which backend computes.
    Device {
        /// The fastest that is there.
        Auto = "auto",
        /// The CPU.
        Cpu = "cpu",
    }
}

words! {
    /// Which kernels the CPU backend uses.
    Isa {
        /// The widest that the processor has.
        Auto = "auto",
        /// Portable code, the reference.
        Scalar = "scalar",
        /// 256-bit vectors.
        Avx2 = "avx2",
        /// 512-bit vectors.
        Avx512 = "avx512",
        /// 512-bit vectors, and products of bfloat16.
        Avx512Bf16 = "avx512bf16",
        /// The same, and tiles of bfloat16.
        Amx = "amx",
    }
}

words! {
    /// What weights are multiplied with.
    Activations {
        /// Whole numbers of eight bits, with a scale for every 32, where weights are quantised.
        Int8 = "int8",
        /// 16-bit floating point with the exponent of `f32`, to which weights are rounded, too.
        Bf16 = "bf16",
        /// 32-bit floating point.
        F32 = "f32",
    }
}

words! {
    /// What carries the collectives.
    Collectives {
        /// Shared memory where all ranks are on one node, else MPI.
        Auto = "auto",
        /// Shared memory.
        Shm = "shm",
        /// MPI.
        Mpi = "mpi",
    }
}

words! {
    /// The least severe messages that are logged.
    LogLevel {
        /// Failures.
        Error = "error",
        /// And what may lead to them.
        Warn = "warn",
        /// And what happens.
        Info = "info",
        /// And what is decided.
        Debug = "debug",
        /// And every step.
        Trace = "trace",
    }
}

words! {
    /// Which requests an iteration may have, and what happens when the KV cache is full.
    BatchSchedulerPolicy {
        /// A request starts once the blocks that it may ever need are free, so none is paused.
        GuaranteedNoEvict = "guaranteed_no_evict",
        /// A request starts once the blocks that it needs now are free; when they run out, the one
        /// that started last is paused and resumes with the tokens that it has.
        MaxUtilization = "max_utilization",
        /// Requests start only when no other is running.
        StaticBatch = "static_batch",
    }
}

words! {
    /// How prompts share an iteration that cannot take all of them.
    ContextChunkingPolicy {
        /// The oldest takes what it can, then the next.
        FirstComeFirstServed = "first_come_first_served",
        /// All of them progress by the same number of tokens.
        EqualProgress = "equal_progress",
    }
}

words! {
    /// What keys and values are stored as.
    KvCacheDtype {
        /// 32-bit floating point.
        F32 = "f32",
        /// 16-bit floating point with the exponent of `f32`.
        Bf16 = "bf16",
        /// 16-bit floating point, IEEE 754.
        F16 = "f16",
        /// 8-bit integers with scales.
        Int8 = "int8",
    }
}
