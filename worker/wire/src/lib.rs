//! What crosses between the rooms and processes of a deployment: a [`Request`] on its way to an
//! engine, the [`Output`]s on their way back, the trait [`EngineClient`] that carries both, what an
//! engine says about its iterations, and the [`lifeline`] between a rank and whoever watches it.
//! [`EngineServer`], [`EngineLink`] and [`SocketEngine`] carry the trait between processes. On one machine
//! they speak over Unix sockets of one user, between machines over TCP, encrypted with the run's
//! [`Secret`].
//!
//! Nothing here schedules, computes or speaks HTTP.

mod address;
mod check;
mod client;
mod door;
mod engine_socket;
mod error;
mod frame;
mod interface;
mod kv_event;
pub mod lifeline;
mod line;
mod listener;
mod output;
mod request;
mod secret;
mod secure;
mod socket;
mod stats;
mod stream;
mod unix;

pub use address::{Address, AddressError};
pub use client::{EngineClient, EngineLimits, EngineState, Refused};
pub use engine_socket::{EngineLink, EngineServer, EngineStream, SocketEngine};
pub use error::SocketError;
pub use interface::{InterfaceError, mpi_network, own_address};
pub use kv_event::{BlockHash, KvEvent, KvEventData, StoredBlock};
pub use listener::{BindTo, Listener};
pub use output::{
    BeamScore, BlockCounts, FinishReason, Finished, Logits, LogitsOf, Output, RequestAccount,
    Tokens,
};
pub use request::{
    BeamSearch, DEFAULT_PRIORITY, Guide, Request, RequestId, Resumed, RetainedRange, Retention,
    RetentionPriority, Sampling, Search, Wanted,
};
pub use secret::{Secret, SecretError};
pub use stats::{
    InflightBatchingStats, IterationStats, KvCacheStats, RequestStage, RequestStats,
    StaticBatchingStats,
};
pub use stream::{OutputSink, OutputStream, output_stream};
pub use unix::remove_dead_socket;
