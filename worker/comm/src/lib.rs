//! Process groups over MPI and shared memory: what the ranks of an instance say to each other.
//!
//! [`World`] is for the start, [`Group`] for tensors, [`Mail`] for what the leader tells its
//! followers each iteration. Nothing here knows what a model or a plan is.

mod error;
mod flag;
mod group;
mod mail;
mod mpi;
mod mpi_group;
mod mpi_mail;
mod shm_group;
mod shm_mail;
mod solo;
mod wait;
mod world;

pub use error::{CommError, Peer};
pub use group::Group;
pub use mail::Mail;
pub use mpi_group::MpiGroup;
pub use mpi_mail::MpiMail;
pub use shm_group::ShmGroup;
pub use shm_mail::ShmMail;
pub use solo::{NoMail, Solo};
pub use wait::Patience;
pub use world::World;
