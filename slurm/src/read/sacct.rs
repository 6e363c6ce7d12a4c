//! `sacct --parsable2`: a line for the job and one for each of its steps.

use super::{fields, given};
use crate::memory::{parse_bytes, parse_request};
use crate::time::unix_seconds;
use crate::{Exit, JobId, JobInfo, JobState, Memory};

/// What sacct is to write of each job and step; free texts last.
pub(crate) const FORMAT: &str = "JobID,State,ExitCode,Reason,NodeList,NNodes,Timelimit,Start,End,\
     Submit,Partition,User,Account,QOS,ReqMem,MaxRSS,AllocTRES,WorkDir,JobName";

/// Reads what sacct wrote of one job. `None` if the job isn't there.
pub(crate) fn job(text: &str, job: &JobId) -> Option<JobInfo> {
    let id = job.argument();
    let lines = || text.lines().filter_map(fields::<19>);
    let mut info = lines().find(|line| line[0] == id).and_then(|line| of_job(job, line))?;
    let steps = || lines().filter(|line| line[0].strip_prefix(&id).is_some_and(is_step));
    info.max_rss_bytes = steps().filter_map(|line| parse_bytes(line[15])).max();
    let out_of_memory = steps().filter(|line| JobState::parse(line[1]) == JobState::OutOfMemory);
    info.steps_out_of_memory = out_of_memory.map(|line| line[0].to_owned()).collect();
    Some(info)
}

fn is_step(rest: &str) -> bool {
    rest.starts_with('.')
}

fn of_job(job: &JobId, line: [&str; 19]) -> Option<JobInfo> {
    let [
        _,
        state,
        exit,
        reason,
        nodes,
        num_nodes,
        time_limit,
        start,
        end,
        submit,
        partition,
        user,
        account,
        qos,
        memory,
        _,
        tres,
        work_dir,
        name,
    ] = line;
    Some(JobInfo {
        name: name.to_owned(),
        user: given(user),
        account: given(account),
        qos: given(qos),
        partition: given(partition),
        reason: given(reason),
        nodes: given(nodes),
        num_nodes: num_nodes.parse().ok(),
        time_limit: time_limit.parse().ok(),
        submit_unix_s: unix_seconds(submit),
        start_unix_s: unix_seconds(start),
        end_unix_s: unix_seconds(end),
        preempt_unix_s: None,
        exit: Exit::parse(exit),
        memory: requested(memory),
        tres: given(tres),
        work_dir: given(work_dir),
        ..JobInfo::new(job.clone(), JobState::parse(state))
    })
}

/// Before Slurm 21.08, `100Mn` was per node and `100Mc` per CPU; since then it is all of a job's.
fn requested(text: &str) -> Option<Memory> {
    match (text.strip_suffix('n'), text.strip_suffix('c')) {
        (Some(per_node), _) => parse_request(per_node).map(Memory::PerNode),
        (_, Some(per_cpu)) => parse_request(per_cpu).map(Memory::PerCpu),
        _ => parse_request(text).map(Memory::PerJob),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../../tests/recorded/sacct.txt");

    fn recorded(number: u32) -> JobInfo {
        job(RECORDED, &JobId::new(number)).unwrap()
    }

    #[test]
    fn a_cancelled_job_says_by_whom_and_its_steps_what_they_used() {
        let info = recorded(4);
        assert_eq!(info.state, JobState::Cancelled { by: Some("1000".into()) });
        assert_eq!(info.max_rss_bytes, Some(10_760 << 10));
        assert_eq!(info.time_limit.unwrap().to_string(), "00:01:00");
        assert_eq!((info.user.as_deref(), info.nodes.as_deref()), (Some("ada"), Some("n2")));
        assert_eq!((info.end_unix_s.unwrap() - info.start_unix_s.unwrap()), 41);
        assert_eq!((info.memory, info.name), (Some(Memory::PerJob(100 << 20)), "wrap".into()));
        assert!(info.steps_out_of_memory.is_empty());
    }

    #[test]
    fn steps_out_of_memory_are_named() {
        let info = recorded(36);
        assert_eq!((info.state, info.exit), (JobState::Failed, Exit::parse("1:0")));
        assert_eq!(info.steps_out_of_memory, ["36.0"]);
        assert_eq!(recorded(35).state, JobState::OutOfMemory);
    }

    #[test]
    fn one_that_never_started_has_neither_nodes_nor_a_start() {
        let info = recorded(9);
        assert_eq!((info.nodes, info.start_unix_s), (None, None));
        assert_eq!(info.reason.as_deref(), Some("QOSMaxCpuPerUserLimit"));
        assert_eq!(recorded(16).time_limit, None, "the partition's");
    }

    #[test]
    fn other_jobs_are_not_taken_for_it() {
        assert_eq!(job(RECORDED, &JobId::new(99_999)), None);
        assert_eq!(job("36.0|FAILED", &JobId::new(36)), None);
        assert_eq!(job("", &JobId::new(3)), None);
    }

    #[test]
    fn older_forms_of_memory_are_read() {
        assert_eq!(requested("100Mn"), Some(Memory::PerNode(100 << 20)));
        assert_eq!(requested("2Gc"), Some(Memory::PerCpu(2 << 30)));
        assert_eq!(requested("0n"), None);
    }
}
