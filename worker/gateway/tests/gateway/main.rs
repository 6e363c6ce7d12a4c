//! The interface as clients see it, over real sockets, with an engine that does what each test
//! says.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod client;
mod engine;
mod generate;
mod leaving;
mod life;
mod routes;
mod server;
mod streaming;
