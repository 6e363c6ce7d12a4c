//! What whoever routes requests to a model's instances says.

use crate::exposition::{Exposition, Sample};
use crate::{Model, ModelLabel, names};

/// The numbers of one model's routes, as they are now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOf {
    /// Whose they are.
    pub model: ModelLabel,
    /// Times that a request went on in another instance, or in one that was started again.
    pub resubmitted: u64,
    /// Instances that died.
    pub instance_deaths: u64,
    /// Requests that no instance has now.
    pub waiting: u64,
    /// Instances that take requests.
    pub instances_ready: u64,
}

pub(crate) fn routes(text: &mut Exposition, routes: &[RouteOf]) {
    let mut add = |family, number: fn(&RouteOf) -> u64| {
        let sample = |route: &RouteOf| {
            Sample::new(number(route) as f64).model(&route.model, Model::TensorrtLlm)
        };
        text.add(family, routes.iter().map(sample).collect());
    };
    add(&names::RESUBMITTED, |route| route.resubmitted);
    add(&names::INSTANCE_DEATHS, |route| route.instance_deaths);
    add(&names::WAITING_FOR_INSTANCE, |route| route.waiting);
    add(&names::INSTANCES_READY, |route| route.instances_ready);
}
