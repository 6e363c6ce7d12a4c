//! The interface as clients see it, over real sockets, with an engine that does what each test
//! says.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod bad_parameters;
mod client;
mod connections;
mod docs;
mod engine;
mod generate;
mod leaving;
mod life;
mod models;
mod observe;
mod outputs;
mod parameters;
mod repository;
mod routed;
mod routes;
mod sequences;
mod server;
mod stop;
mod streaming;
mod tokens;
