//! Process groups over MPI and shared memory.

mod error;
mod group;
mod solo;

pub use error::CommError;
pub use group::Group;
pub use solo::Solo;
