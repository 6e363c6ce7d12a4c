//! The HTTP interface: KServe v2 health, metadata and model repository, `generate` and
//! `generate_stream` as Triton has them, and on a port of their own metrics, iteration statistics and
//! cache events.
//!
//! A request is decoded, checked and tokenised here, handed to its model's [`EngineClient`], and its
//! tokens come back as text, or as they are. [`RoutedEngine`] is such a client over several instances,
//! which may die and come back. Nothing here schedules iterations or computes, starts a process or
//! loads a model: what engines are made of stays behind that trait, and who starts them behind
//! [`ModelRepository`].
//!
//! [`EngineClient`]: shardrun_wire::EngineClient

mod account;
mod body;
mod completion;
mod connections;
mod encode;
mod error;
mod generate;
mod kserve;
mod listen;
mod models;
mod named;
mod observe;
mod repository;
mod routed;
mod routes;
mod serve;
mod served;
mod state;
mod stop;
mod text;

pub use listen::{ConnectionLimits, GatewayError, ListenConfig, Listeners};
pub use models::{ModelError, ModelParts};
pub use repository::{IndexEntry, ModelRepository, ModelState, RepositoryError};
pub use routed::{RouteConfig, RoutedEngine, Routing};
pub use serve::serve;
pub use state::{GatewayParts, GatewayState, Scrape};
pub use text::{Detokenize, TextModel};
