//! Which rank, of all that one supervisor watches.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A rank of one start of one instance of a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RankId {
    /// Number of the instance within the deployment.
    pub instance: u32,
    /// How often the instance was started before.
    pub attempt: u32,
    /// Rank in its world.
    pub rank: u32,
}

impl fmt::Display for RankId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {} of instance {}", self.rank, self.instance)
    }
}
