//! Deployments on a real Slurm of several nodes: across nodes, hurt, stopped, and beside each other. After
//! every story nothing of it is left on any node.

mod across;
mod by_hand;
mod deaths;
mod limits;
mod neighbours;
mod orchestrated;
mod refusals;
mod site;
