//! `generate` and `generate_stream`: one prompt in a JSON object, text out, whole or as
//! server-sent events.

mod fields;
pub(crate) mod inputs;
mod parameters;
mod reply;
mod routes;
mod unserved;
mod value;

pub(crate) use routes::router;
