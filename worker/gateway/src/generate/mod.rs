//! `generate` and `generate_stream`: one prompt in a JSON object, what follows it out, whole or as
//! server-sent events.

mod fields;
mod inputs;
mod neutral;
mod outputs;
mod parameters;
mod reply;
mod routes;
mod streaming;
mod value;

pub(crate) use inputs::input_tensors;
pub(crate) use outputs::output_tensors;
pub(crate) use routes::router;
pub(crate) use value::shown;

use serde::Serialize;

/// A tensor's name, type and shape, as metadata lists it; -1 stands for any size. The first
/// dimension is the batch.
#[derive(Serialize)]
pub(crate) struct Tensor {
    name: &'static str,
    datatype: &'static str,
    shape: &'static [i32],
}
