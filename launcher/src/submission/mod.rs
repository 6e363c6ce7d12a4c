//! From a deployment to a batch job: how large it is, its script, and whether the cluster has what it asks
//! for. Nothing here runs a program.

mod demand;
mod script;
mod size;

pub(crate) use demand::{Demand, counted};
pub(crate) use script::script;
pub(crate) use size::Size;
