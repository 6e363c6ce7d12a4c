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
