//! The environment of a job.

use crate::hostlist;
use crate::memory::parse_request;
use crate::partition::gpus_of;
use crate::time::unix_seconds;
use crate::{JobId, Memory, SlurmError};

/// What the environment says of the job that this process is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The job.
    pub job: JobId,
    /// Its nodes, in Slurm's order.
    pub nodes: Vec<String>,
    /// CPUs on each of [`nodes`](Self::nodes); empty if nobody says.
    pub cpus_per_node: Vec<u32>,
    /// The memory that was asked for.
    pub memory: Option<Memory>,
    /// The job's GPUs on this node, by Slurm's index; empty if it has none or nobody says.
    pub gpus: Vec<String>,
    /// How many GPUs the job, or the step, has on this node.
    pub gpus_on_node: Option<u32>,
    /// How many GPUs were asked for on each node.
    pub gpus_per_node: Option<u32>,
    /// How often the job was requeued.
    pub restart_count: u32,
    /// When its time is up, in seconds since 1970. Slurm 23.02 and later say so; earlier, ask
    /// [`Slurm::show`](crate::Slurm::show).
    pub end_unix_s: Option<u64>,
    /// The cluster's name.
    pub cluster: Option<String>,
}

impl Allocation {
    /// Reads the environment through `get`. `None` outside a job.
    ///
    /// # Errors
    ///
    /// [`SlurmError::BadVariable`] and [`SlurmError::BadHostlist`]: a variable that is there can't be
    /// read.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, SlurmError> {
        let environment = Environment { get };
        let Some(number) = environment.number("SLURM_JOB_ID")? else { return Ok(None) };
        let task = environment.number("SLURM_ARRAY_TASK_ID")?;
        let array = environment.number("SLURM_ARRAY_JOB_ID")?.zip(task);
        let id = match array {
            Some((array, task)) => format!("{array}_{task}"),
            None => number.to_string(),
        };
        let text = |name| environment.text(name);
        Ok(Some(Self {
            job: id.parse()?,
            nodes: environment.hosts("SLURM_JOB_NODELIST")?,
            cpus_per_node: environment.repeats("SLURM_JOB_CPUS_PER_NODE")?,
            memory: environment.memory(),
            gpus: environment.list("SLURM_JOB_GPUS"),
            gpus_on_node: environment.number("SLURM_GPUS_ON_NODE")?,
            gpus_per_node: text("SLURM_GPUS_PER_NODE").map(|gpus| asked_gpus(&gpus)),
            cluster: environment.text("SLURM_CLUSTER_NAME"),
            restart_count: environment.number("SLURM_RESTART_COUNT")?.unwrap_or(0),
            end_unix_s: text("SLURM_JOB_END_TIME").as_deref().and_then(unix_seconds),
        }))
    }
}

/// Variables, and how they are read.
struct Environment<F> {
    get: F,
}

impl<F: Fn(&str) -> Option<String>> Environment<F> {
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|text| !text.is_empty() && text != "(null)")
    }

    fn number(&self, name: &'static str) -> Result<Option<u32>, SlurmError> {
        let read = |value: String| value.parse().map_err(|_| bad(name, value, "a number"));
        self.text(name).map(read).transpose()
    }

    fn hosts(&self, name: &str) -> Result<Vec<String>, SlurmError> {
        hostlist::expand(&self.text(name).unwrap_or_default())
    }

    /// `2(x3),1` is 2, 2, 2, 1.
    fn repeats(&self, name: &'static str) -> Result<Vec<u32>, SlurmError> {
        let Some(text) = self.text(name) else { return Ok(Vec::new()) };
        repeats(&text).ok_or_else(|| bad(name, text, "counts such as 2(x3),1"))
    }

    /// `0,2` or, as some versions write it, `0-1,3`.
    fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        let entry = |entry: &str| {
            let range = entry.split_once('-');
            match range.map(|(low, high)| (low.parse::<u32>(), high.parse::<u32>())) {
                Some((Ok(low), Ok(high))) if low <= high && high - low < 1024 => {
                    (low..=high).map(|index| index.to_string()).collect()
                }
                _ => vec![entry.to_owned()],
            }
        };
        text.split(',').filter(|entry| !entry.is_empty()).flat_map(entry).collect()
    }

    fn memory(&self) -> Option<Memory> {
        let amount = |name| self.text(name).as_deref().and_then(parse_request);
        let per_node = amount("SLURM_MEM_PER_NODE").map(Memory::PerNode);
        per_node.or_else(|| amount("SLURM_MEM_PER_CPU").map(Memory::PerCpu))
    }
}

fn bad(name: &'static str, value: String, expected: &'static str) -> SlurmError {
    SlurmError::BadVariable { name, value, expected }
}

/// The GPUs of `--gpus-per-node` as it was given: `2`, `h100:4`, `a100:1,h100:2`.
#[must_use]
pub fn asked_gpus(text: &str) -> u32 {
    let entry = |entry: &str| match entry.parse::<u32>() {
        Ok(count) => count,
        Err(_) => gpus_of(&format!("gpu:{entry}")),
    };
    text.split(',').map(entry).fold(0, u32::saturating_add)
}

/// As many counts as a job can have nodes at most.
fn repeats(text: &str) -> Option<Vec<u32>> {
    let mut counts = Vec::new();
    for entry in text.split(',') {
        let (count, times) = match entry.split_once("(x") {
            Some((count, times)) => (count, times.strip_suffix(')')?.parse().ok()?),
            None => (entry, 1),
        };
        let room = hostlist::MAX_HOSTS - counts.len();
        counts.extend(std::iter::repeat_n(count.parse::<u32>().ok()?, room.min(times)));
        if times > room {
            return None;
        }
    }
    Some(counts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
