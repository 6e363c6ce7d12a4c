//! Several instances of a model as one engine: deaths, resubmissions, and what clients see of them.

mod cost;
mod counting;
mod deaths;
mod http;
mod many;
mod placing;
mod reader;
mod scripted;
mod sockets;
