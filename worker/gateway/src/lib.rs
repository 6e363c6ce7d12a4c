//! The HTTP interface: KServe v2 health and metadata, `generate` and `generate_stream` as Triton
//! has them, and on a port of their own metrics, iteration statistics and cache events.
//!
//! A request is decoded, checked and tokenised here, handed to an [`EngineClient`], and its tokens
//! come back as text, or as they are. Nothing here schedules or computes, and what the engine is made of stays
//! behind that trait.
//!
//! [`EngineClient`]: shardrun_wire::EngineClient

mod account;
mod body;
mod completion;
mod encode;
mod error;
mod generate;
mod kserve;
mod listen;
mod named;
mod observe;
mod routes;
mod serve;
mod served;
mod state;
mod stop;
mod text;

pub use listen::{GatewayError, ListenConfig, Listeners};
pub use serve::serve;
pub use state::{GatewayParts, GatewayState, Scrape};
pub use text::{Detokenize, TextModel};
