//! What crosses between the rooms and processes of a deployment: a [`Request`] on its way to an
//! engine, the [`Output`]s on their way back, the trait [`EngineClient`] that carries both, and the
//! [`lifeline`] between a rank and whoever watches it.
//!
//! Nothing here schedules, computes or speaks HTTP.

mod client;
pub mod lifeline;
mod request;

pub use client::{EngineClient, EngineLimits, EngineState, OutputStream, Refused};
pub use request::{FinishReason, Output, Request, RequestId, Sampling};
