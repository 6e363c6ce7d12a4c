//! `squeue`, in a format of our own: one line a job, `|` between fields, free texts last.

use super::{fields, given};
use crate::memory::parse_request;
use crate::time::unix_seconds;
use crate::{JobInfo, JobState, Memory};

/// What squeue is to write of each job.
pub(crate) const FORMAT: &str = "%i|%T|%P|%u|%r|%N|%B|%l|%S|%e|%V|%D|%m|%E|%b|%a|%q|%j";

/// Reads one line. `None` if it is not in [`FORMAT`].
pub(crate) fn job(line: &str) -> Option<JobInfo> {
    let [
        job,
        state,
        partition,
        user,
        reason,
        nodes,
        batch_host,
        time_limit,
        start,
        end,
        submit,
        num_nodes,
        memory,
        dependency,
        tres_per_node,
        account,
        qos,
        name,
    ] = fields(line)?;
    // What is left of an array is one line even where each task has its own: 13_[2-4%1]. Of a
    // heterogeneous job each component has a line: 123+0.
    let job = job.find("_[").or_else(|| job.find('+')).map_or(job, |end| &job[..end]);
    Some(JobInfo {
        name: name.to_owned(),
        user: given(user),
        account: given(account),
        qos: given(qos),
        partition: given(partition),
        reason: given(reason),
        nodes: given(nodes),
        num_nodes: num_nodes.split('-').next()?.parse().ok(),
        batch_host: given(batch_host),
        time_limit: time_limit.parse().ok(),
        submit_unix_s: unix_seconds(submit),
        start_unix_s: unix_seconds(start),
        end_unix_s: unix_seconds(end),
        preempt_unix_s: None,
        // squeue doesn't say whether it is per node or per CPU; per node is what jobs ask for.
        memory: parse_request(memory).map(Memory::PerNode),
        tres_per_node: given(tres_per_node),
        dependency: given(dependency),
        ..JobInfo::new(job.parse().ok()?, JobState::parse(state))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/recorded/squeue.txt");

    #[test]
    fn every_recorded_job_is_read() {
        let jobs: Vec<_> = RECORDED.lines().map(|line| job(line).unwrap()).collect();
        let of = |id: &str| jobs.iter().find(|info| info.job.to_string() == id).unwrap();
        assert!(jobs.iter().all(|info| info.submit_unix_s.is_some()), "{jobs:?}");
        let running = of("50");
        assert_eq!((&running.state, &running.reason), (&JobState::Running, &None));
        assert_eq!(running.nodes.as_deref(), Some("n[1-2]"));
        assert_eq!(running.batch_host.as_deref(), Some("n1"));
        assert_eq!(running.time_limit.unwrap().to_string(), "01:30:00");
        assert_eq!(running.tres_per_node.as_deref(), Some("gres:gpu:2"));
        assert_eq!(running.memory, Some(Memory::PerNode(100 << 20)));
        assert_eq!(running.name, "a|b JobState=FAILED");
        let pending = of("51");
        assert_eq!((&pending.state, &pending.nodes), (&JobState::Pending, &None));
        assert!(pending.reason.as_deref().unwrap().starts_with("Nodes required for job are DOWN"));
        assert_eq!(of("52").dependency.as_deref(), Some("afterok:51(unfulfilled)"));
        let unavailable = of("53").reason.as_deref();
        assert_eq!(unavailable, Some("ReqNodeNotAvail, UnavailableNodes:n3"));
        assert!(of("48_0").state.is_final());
    }

    #[test]
    fn arrays_and_heterogeneous_jobs_are_read() {
        let line = RECORDED.lines().find(|line| line.starts_with("50|")).unwrap();
        for (form, id) in [
            ("123+0", "123"),
            ("123+11", "123"),
            ("123_4", "123_4"),
            ("123_[0-3]", "123"),
            ("123_[2,5-7%1]", "123"),
            // Of a federation: the number says the cluster, too.
            ("2147483649", "2147483649"),
        ] {
            let info = job(&line.replacen("50", form, 1)).unwrap();
            assert_eq!((info.job.to_string(), &*info.name), (id.into(), "a|b JobState=FAILED"));
        }
    }

    #[test]
    fn another_line_is_no_job() {
        for line in ["", "JOBID PARTITION", "x|RUNNING|||||||||||||||"] {
            assert!(job(line).is_none(), "{line}");
        }
    }
}
