//! What crosses between the rooms and processes of a deployment: a [`Request`] on its way to an
//! engine, the [`Output`]s on their way back, the trait [`EngineClient`] that carries both, what an
//! engine says about its iterations, and the [`lifeline`] between a rank and whoever watches it.
//! [`EngineServer`] and [`SocketEngine`] carry the trait between processes.
//!
//! Nothing here schedules, computes or speaks HTTP.

mod client;
mod engine_socket;
mod frame;
mod kv_event;
pub mod lifeline;
mod output;
mod request;
mod stats;
mod stream;

pub use client::{EngineClient, EngineLimits, EngineState, Refused};
pub use engine_socket::{EngineServer, SocketEngine, SocketError};
pub use kv_event::{BlockHash, KvEvent, KvEventData, StoredBlock};
pub use output::{
    BeamScore, BlockCounts, FinishReason, Finished, Logits, LogitsOf, Output, RequestAccount,
    Tokens,
};
pub use request::{
    BeamSearch, DEFAULT_PRIORITY, Guide, Request, RequestId, Resumed, RetainedRange, Retention,
    RetentionPriority, Sampling, Search, Wanted,
};
pub use stats::{
    InflightBatchingStats, IterationStats, KvCacheStats, RequestStage, RequestStats,
    StaticBatchingStats,
};
pub use stream::{OutputSink, OutputStream, output_stream};
