//! Several instances of one model behind one [`EngineClient`](shardrun_wire::EngineClient): which of
//! them gets a request, and what becomes of it when that one dies.
//!
//! # What a client of this engine sees
//! Each request is kept until its last token has been handed on. Its instance's death is a pause: the
//! request goes on in another instance, or in one that is attached later, from the tokens that came
//! ([`Request::resume`](shardrun_wire::Request::resume)), and not one is lost or comes twice. Logits
//! too: rows of generated tokens that came without their token are told by their place and dropped
//! when they come again; the prompt's rows are asked for again only if some are missing, and those that
//! came are dropped. Beams start over, since nothing comes of a search before its end; a search is a
//! function of its request, so what came of several beams when the connection broke is dropped, too.
//!
//! # When an instance is dead for a request
//! When the request's stream ends before the request does; when the instance's state becomes
//! [`Stopped`](shardrun_wire::EngineState::Stopped); when it answers a submission with
//! [`Unreachable`](shardrun_wire::Refused::Unreachable); when it is detached. An engine that falls says
//! of each request that it failed: a failure is therefore held back until it is clear whether the
//! instance survives it.
//!
//! # The bound on deaths
//! A request that an instance has accepted counts as running there, whether its first iteration
//! has begun or not, since nobody outside can tell. At the death of
//! [`deaths_allowed`](RouteConfig::deaths_allowed) instances that it was running in, a request fails. An
//! instance that died before it answered counts for a fourth of that. Instances that were stopped,
//! by [`RoutedEngine::retire`] or while they drained, are held against nobody.
//!
//! # Time
//! A request's time counts from its first submission. So does the time that it may wait for a first
//! instance; one that has started waits for another as long as its time allows, and starts there before
//! those that have not.
//!
//! # What is counted
//! The end of each request that an instance accepted, or that was over before one did, on the model's page,
//! once. Ends that instances tell don't count: one that fell says that what goes on elsewhere failed, one
//! that was retired that it was cancelled. A refusal is counted by whoever hears it.
//!
//! Nothing here starts or stops a process: who does attaches and detaches.

mod counts;
mod ends;
mod engine;
mod fleet;
mod journey;
mod merge;
mod place;
mod policy;
mod recent;
mod retained;
mod times;

pub use engine::{RouteConfig, RoutedEngine};
pub use policy::Routing;
