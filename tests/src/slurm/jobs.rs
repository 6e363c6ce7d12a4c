//! What Slurm says of jobs and nodes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use anyhow::Context as _;

use super::cluster::Cluster;
use super::conf::node_name;
use super::output::said;
use super::user::User;
use crate::wait::until_some;

/// How long one of Slurm's commands may take: longer than it waits for the controller.
const ANSWER: Duration = Duration::from_secs(30);
/// Time between two questions: each is a process or two of a machine that has other work.
const PACE: Duration = Duration::from_millis(100);

/// What `scontrol show job` says of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job(BTreeMap<String, String>);

impl Job {
    /// One line of `scontrol show job -o`. A value may have spaces in it; a word with `=` begins
    /// another.
    fn parse(line: &str) -> Self {
        let mut fields = BTreeMap::<String, String>::new();
        let mut last = None;
        for word in line.split_whitespace() {
            if let Some((key, value)) = word.split_once('=') {
                fields.insert(key.to_owned(), value.to_owned());
                last = Some(key);
            } else if let Some(value) = last.and_then(|key| fields.get_mut(key)) {
                value.push(' ');
                value.push_str(word);
            }
        }
        Self(fields)
    }

    /// A field as Slurm calls and writes it: `NodeList`, `ExitCode`, `Restarts`; empty if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// Its state as Slurm writes it, RUNNING for one.
    #[must_use]
    pub fn state(&self) -> &str {
        self.field("JobState")
    }
}

impl Cluster {
    /// Submits what `arguments` of sbatch say; gives the job's number.
    ///
    /// # Errors
    /// If it is refused.
    pub fn submit<S: AsRef<OsStr>>(&self, user: User, arguments: &[S]) -> anyhow::Result<u32> {
        let mut command = self.login().command_as(user, "sbatch");
        command.arg("--parsable").args(arguments);
        let text = said(command, ANSWER)?;
        text.trim().parse().with_context(|| format!("sbatch said {text:?}"))
    }

    /// What Slurm knows of a job.
    ///
    /// # Errors
    /// If it doesn't know it, or not any longer.
    pub fn job(&self, id: u32) -> anyhow::Result<Job> {
        Ok(Job::parse(&self.scontrol(&["show", "job", "-o", &id.to_string()])?))
    }

    /// Waits until `seen` of a job.
    ///
    /// # Errors
    /// If it isn't in time; the error has all that Slurm knows of the job.
    pub fn wait_for_job(
        &self,
        id: u32,
        within: Duration,
        seen: impl Fn(&Job) -> bool,
    ) -> anyhow::Result<Job> {
        let what = format!("job {id} to be as expected");
        let waited = paced(&what, within, || Ok(Some(self.job(id)?).filter(|job| seen(job))));
        waited.with_context(|| format!("the job is {:?}", self.job(id)))
    }

    /// The state of a node as Slurm writes it: IDLE, MIXED+COMPLETING, DOWN+NOT_RESPONDING.
    ///
    /// # Errors
    /// If Slurm doesn't say.
    pub fn node_state(&self, node: usize) -> anyhow::Result<String> {
        let line = self.scontrol(&["show", "node", "-o", &node_name(node)])?;
        let state = line.split_whitespace().find_map(|word| word.strip_prefix("State="));
        Ok(state.with_context(|| format!("no state in {line:?}"))?.to_owned())
    }

    /// Waits until `seen` of a node's state; gives that.
    ///
    /// # Errors
    /// If it isn't in time.
    pub fn wait_for_node(
        &self,
        node: usize,
        within: Duration,
        seen: impl Fn(&str) -> bool,
    ) -> anyhow::Result<String> {
        let what = format!("node {node} to be as expected");
        let state = || Ok(Some(self.node_state(node)?).filter(|state| seen(state)));
        paced(&what, within, state).with_context(|| format!("it is {:?}", self.node_state(node)))
    }

    /// Waits until every node is idle: nothing runs, nothing is ending, no node is away.
    ///
    /// # Errors
    /// If they aren't in time; says what they are.
    pub fn wait_idle(&self, within: Duration) -> anyhow::Result<()> {
        let states = || {
            let mut command = self.command("sinfo");
            command.args(["--noheader", "--Node", "--format=%N %T", "--partition=main"]);
            said(command, ANSWER)
        };
        paced("all nodes to be idle", within, || {
            Ok(states()?.lines().all(|line| line.ends_with(" idle")).then_some(()))
        })
        .with_context(|| format!("{:?}", states()))
    }

    fn scontrol(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = self.command("scontrol");
        command.args(words);
        said(command, ANSWER)
    }
}

/// Looks as [`until_some`] does, but not as often.
fn paced<T>(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    until_some(what, within, || {
        let seen = look()?;
        if seen.is_none() {
            std::thread::sleep(PACE);
        }
        Ok(seen)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_s_fields() {
        let job = Job::parse(
            "JobId=7 JobName=two words UserId=ada(61001) JobState=PENDING Reason=Resources \
             SubmitTime=2026-01-02T03:04:05 NodeList= Command=/a/b --config x TRES=cpu=2,node=1",
        );
        assert_eq!(job.state(), "PENDING");
        assert_eq!(job.field("JobName"), "two words");
        assert_eq!(job.field("NodeList"), "");
        assert_eq!(job.field("Command"), "/a/b --config x");
        assert_eq!(job.field("TRES"), "cpu=2,node=1");
        assert_eq!(job.field("Nothing"), "");
    }
}
