//! From a deployment to a batch job: how large it is, its script, and whether it can do what it is for, as
//! far as that can be told before it waits. Nothing here runs a program.

mod check;
mod demand;
mod script;
mod size;
mod told;

pub(crate) use check::check;
pub(crate) use demand::{Demand, counted};
pub(crate) use script::script;
pub(crate) use size::Size;
pub(crate) use told::Told;
