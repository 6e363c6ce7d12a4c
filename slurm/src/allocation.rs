//! The environment of a job, a step and a task.

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
    /// Its name.
    pub job_name: Option<String>,
    /// Its nodes, in Slurm's order.
    pub nodes: Vec<String>,
    /// CPUs on each of [`nodes`](Self::nodes); empty if nobody says.
    pub cpus_per_node: Vec<u32>,
    /// Tasks on each of [`nodes`](Self::nodes), as they were asked for; empty within a step, whose
    /// own stand in [`step`](Self::step), and if nobody says.
    pub tasks_per_node: Vec<u32>,
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
    /// Its partition.
    pub partition: Option<String>,
    /// Its account.
    pub account: Option<String>,
    /// Its quality of service.
    pub qos: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// The folder that it was submitted from.
    pub submit_dir: Option<String>,
    /// The node that this process is on, by the name that Slurm has for it.
    pub node_name: Option<String>,
    /// The step that this process is in; `None` in the batch script.
    pub step: Option<Step>,
    /// The task that this process is, within a step.
    pub task: Option<Task>,
}

/// What the environment says of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number within the job.
    pub id: u32,
    /// Its nodes.
    pub nodes: Vec<String>,
    /// Tasks on each of [`nodes`](Self::nodes).
    pub tasks_per_node: Vec<u32>,
    /// How many tasks it has.
    pub num_tasks: u32,
    /// The step's GPUs on this node, by Slurm's index. `--gpu-bind=none` hides them.
    pub gpus: Vec<String>,
    /// The MPI plugin that it was started with.
    pub mpi_type: Option<String>,
}

/// What the environment says of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task {
    /// Its number among all of the step.
    pub proc_id: u32,
    /// Its number among those of the step on this node.
    pub local_id: u32,
    /// The number of its node among those of the step.
    pub node_id: u32,
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
        let step = environment.step()?;
        let tasks_per_node = match step {
            None => environment.repeats("SLURM_TASKS_PER_NODE")?,
            Some(_) => Vec::new(),
        };
        let text = |name| environment.text(name);
        Ok(Some(Self {
            job: id.parse()?,
            job_name: text("SLURM_JOB_NAME"),
            nodes: environment.hosts("SLURM_JOB_NODELIST")?,
            cpus_per_node: environment.repeats("SLURM_JOB_CPUS_PER_NODE")?,
            tasks_per_node,
            memory: environment.memory(),
            gpus: environment.list("SLURM_JOB_GPUS"),
            gpus_on_node: environment.number("SLURM_GPUS_ON_NODE")?,
            gpus_per_node: text("SLURM_GPUS_PER_NODE").map(|gpus| asked_gpus(&gpus)),
            restart_count: environment.number("SLURM_RESTART_COUNT")?.unwrap_or(0),
            end_unix_s: text("SLURM_JOB_END_TIME").as_deref().and_then(unix_seconds),
            partition: text("SLURM_JOB_PARTITION"),
            account: text("SLURM_JOB_ACCOUNT"),
            qos: text("SLURM_JOB_QOS"),
            cluster: text("SLURM_CLUSTER_NAME"),
            submit_dir: text("SLURM_SUBMIT_DIR"),
            node_name: text("SLURMD_NODENAME"),
            task: environment.task(step.is_some())?,
            step,
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

    fn step(&self) -> Result<Option<Step>, SlurmError> {
        // Slurm's own numbers for the batch script and for interactive shells are huge.
        const FIRST_SPECIAL: u32 = 0xffff_fff0;
        let id = self.number("SLURM_STEP_ID")?.filter(|&id| id < FIRST_SPECIAL);
        let Some(id) = id else { return Ok(None) };
        let tasks_per_node = self.repeats("SLURM_STEP_TASKS_PER_NODE")?;
        let counted = tasks_per_node.iter().sum();
        Ok(Some(Step {
            id,
            nodes: self.hosts("SLURM_STEP_NODELIST")?,
            tasks_per_node,
            num_tasks: self.number("SLURM_STEP_NUM_TASKS")?.unwrap_or(counted),
            gpus: self.list("SLURM_STEP_GPUS"),
            mpi_type: self.text("SLURM_MPI_TYPE"),
        }))
    }

    /// A batch script has these variables, too, and is no task.
    fn task(&self, in_step: bool) -> Result<Option<Task>, SlurmError> {
        let ids = (
            self.number("SLURM_PROCID")?,
            self.number("SLURM_LOCALID")?,
            self.number("SLURM_NODEID")?,
        );
        Ok(match ids {
            (Some(proc_id), Some(local_id), Some(node_id)) if in_step => {
                Some(Task { proc_id, local_id, node_id })
            }
            _ => None,
        })
    }
}

fn bad(name: &'static str, value: String, expected: &'static str) -> SlurmError {
    SlurmError::BadVariable { name, value, expected }
}

/// `--gpus-per-node` as it was given: `2`, `h100:4`, `a100:1,h100:2`.
fn asked_gpus(text: &str) -> u32 {
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
