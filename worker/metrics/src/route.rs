//! What whoever routes requests to a model's instances says.

use std::collections::BTreeMap;

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

impl RouteOf {
    /// Of two engines of one model, of which one is taking the other's place.
    fn with(self, other: &Self) -> Self {
        Self {
            model: self.model,
            resubmitted: self.resubmitted + other.resubmitted,
            instance_deaths: self.instance_deaths + other.instance_deaths,
            waiting: self.waiting + other.waiting,
            instances_ready: self.instances_ready + other.instances_ready,
        }
    }
}

pub(crate) fn routes(text: &mut Exposition, routes: &[RouteOf]) {
    let mut models: BTreeMap<&ModelLabel, RouteOf> = BTreeMap::new();
    for route in routes {
        let sum = match models.remove(&route.model) {
            Some(other) => other.with(route),
            None => route.clone(),
        };
        models.insert(&route.model, sum);
    }
    let mut add = |family, number: fn(&RouteOf) -> u64| {
        let sample = |route: &RouteOf| {
            Sample::new(number(route) as f64).model(&route.model, Model::TensorrtLlm)
        };
        text.add(family, models.values().map(sample).collect());
    };
    add(&names::RESUBMITTED, |route| route.resubmitted);
    add(&names::INSTANCE_DEATHS, |route| route.instance_deaths);
    add(&names::WAITING_FOR_INSTANCE, |route| route.waiting);
    add(&names::INSTANCES_READY, |route| route.instances_ready);
}
