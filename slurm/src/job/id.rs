//! Which job.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

use crate::SlurmError;

/// A job: `123`, `123_4` for a task of a job array, `123;cluster` where sites have several clusters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    number: u32,
    array_task: Option<u32>,
    cluster: Option<String>,
}

impl JobId {
    /// The job with this number.
    #[must_use]
    pub fn new(number: u32) -> Self {
        Self { number, array_task: None, cluster: None }
    }

    /// Its number; of a task, the number of its array.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The task of a job array.
    #[must_use]
    pub fn array_task(&self) -> Option<u32> {
        self.array_task
    }

    /// The cluster, if it was named.
    #[must_use]
    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }

    /// Whether it is the same job; one that names no cluster may be of any.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let clusters = self.cluster.as_ref().zip(other.cluster.as_ref());
        self.number == other.number
            && self.array_task == other.array_task
            && clusters.is_none_or(|(one, another)| one == another)
    }

    /// `job`, on the cluster that `asked` named.
    pub(crate) fn with_cluster_of(job: Self, asked: &Self) -> Self {
        Self { cluster: asked.cluster.clone(), ..job }
    }

    /// As Slurm's programs take it: without the cluster.
    pub(crate) fn argument(&self) -> String {
        match self.array_task {
            Some(task) => format!("{}_{task}", self.number),
            None => self.number.to_string(),
        }
    }
}

impl FromStr for JobId {
    type Err = SlurmError;

    fn from_str(text: &str) -> Result<Self, SlurmError> {
        let (job, cluster) = match text.split_once(';') {
            Some((job, cluster)) => (job, Some(cluster)),
            None => (text, None),
        };
        let (number, task) = match job.split_once('_') {
            Some((number, task)) => (number, Some(task)),
            None => (job, None),
        };
        let read = || {
            let named = cluster.is_none_or(|name| {
                !name.is_empty()
                    && !name.starts_with('-')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
            });
            let array_task = task.map(digits).map_or(Some(None), |task| Some(Some(task?)))?;
            let number = digits(number).filter(|&number| number > 0 && named)?;
            Some(Self { number, array_task, cluster: cluster.map(str::to_owned) })
        };
        read().ok_or_else(|| SlurmError::BadValue {
            field: "job".into(),
            value: text.into(),
            allowed: "a job number such as 123, 123_4 or 123;cluster",
        })
    }
}

/// A number without a sign, which Rust's parser would take.
fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cluster {
            Some(cluster) => f.pad(&format!("{};{cluster}", self.argument())),
            None => f.pad(&self.argument()),
        }
    }
}

impl Serialize for JobId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_come_back_as_they_were_read() {
        for text in ["123", "123_4", "123;gpu-west", "123_0;a.b"] {
            assert_eq!(text.parse::<JobId>().unwrap().to_string(), text);
        }
        let job: JobId = "9_2;west".parse().unwrap();
        assert_eq!((job.number(), job.array_task(), job.cluster()), (9, Some(2), Some("west")));
        assert_eq!(job.argument(), "9_2");
    }

    #[test]
    fn nothing_else_is_a_job() {
        for text in ["", "0", "+1", "-1", "1_", "1_x", "1;", "1;--all", "1;a b", "99999999999"] {
            let error = text.parse::<JobId>().unwrap_err().to_string();
            assert!(error.starts_with("job is"), "{error}");
        }
    }
}
