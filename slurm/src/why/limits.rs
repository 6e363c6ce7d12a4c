//! What a job asks for beside what its partitions allow.

use super::Facts;
use crate::{JobInfo, Partition};

/// The partitions that a job may run in, as far as they are known.
fn partitions<'a>(job: &'a JobInfo, facts: &'a Facts) -> impl Iterator<Item = &'a Partition> {
    let names = job.partition.as_deref().unwrap_or_default().split(',');
    names.filter_map(|name| facts.partitions.iter().find(|partition| partition.name == name))
}

/// `partition short allows 00:30:00, the job asks for 02:00:00`.
pub(super) fn partition_limit(job: &JobInfo, facts: &Facts) -> Option<String> {
    let limited =
        partitions(job, facts).find_map(|partition| Some((&partition.name, partition.time_limit?)));
    let (name, limit) = limited?;
    let asked = job.time_limit.map_or(String::new(), |asked| format!(", the job asks for {asked}"));
    Some(format!("partition {name} allows {limit}{asked}"))
}

/// `partition short allows 1 nodes a job and has 2, the job asks for 3`.
pub(super) fn node_limit(job: &JobInfo, facts: &Facts) -> Option<String> {
    let partition = partitions(job, facts).next()?;
    let (name, has) = (&partition.name, partition.num_nodes());
    let allows =
        partition.max_nodes.map_or(String::new(), |max| format!("allows {max} a job and "));
    let asked = job.num_nodes.map_or(String::new(), |asked| format!(", the job asks for {asked}"));
    Some(format!("nodes: partition {name} {allows}has {has}{asked}"))
}
