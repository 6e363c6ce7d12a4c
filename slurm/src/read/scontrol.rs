//! `scontrol show job -o`: one line a job, `Key=Value` pairs between blanks.
//!
//! Values aren't quoted. Those that people choose freely, a job's name and its comment, may look
//! like pairs; so the line is cut at keys that always follow them, before pairs are looked for.

use super::given;
use crate::memory::parse_request;
use crate::time::unix_seconds;
use crate::{Exit, JobId, JobInfo, JobState, Memory};

/// Reads one line. `None` if it describes no job.
pub(crate) fn job(line: &str) -> Option<JobInfo> {
    let (ids, rest) = line.trim_end().split_once(" JobName=")?;
    let (name, rest) = rest.split_once(" UserId=")?;
    let (user, rest) = rest.split_once('(')?;
    // Up to the command there are no free texts.
    let (pairs, paths) = rest.split_once(" Command=").unwrap_or((rest, ""));
    let pair = |key: &str| value(pairs, key);
    let text = |key: &str| pair(key).and_then(given);
    let number = |key: &str| pair(key)?.split('-').next()?.parse().ok();
    let time = |key: &str| pair(key).and_then(unix_seconds);
    let memory = || {
        let per_node = pair("MinMemoryNode").and_then(parse_request).map(Memory::PerNode);
        per_node.or_else(|| pair("MinMemoryCPU").and_then(parse_request).map(Memory::PerCpu))
    };
    Some(JobInfo {
        name: name.to_owned(),
        user: given(user),
        account: text("Account"),
        qos: text("QOS"),
        partition: text("Partition"),
        reason: text("Reason"),
        nodes: text("NodeList"),
        num_nodes: number("NumNodes"),
        batch_host: text("BatchHost"),
        time_limit: pair("TimeLimit").and_then(|limit| limit.parse().ok()),
        submit_unix_s: time("SubmitTime"),
        start_unix_s: time("StartTime"),
        end_unix_s: time("EndTime"),
        preempt_unix_s: time("PreemptTime"),
        exit: pair("ExitCode").and_then(Exit::parse),
        restarts: number("Restarts"),
        requeue: pair("Requeue").map(|flag| flag == "1"),
        stdout: path(paths, "StdOut"),
        work_dir: path(paths, "WorkDir"),
        memory: memory(),
        tres: text("TRES").or_else(|| text("AllocTRES")).or_else(|| text("ReqTRES")),
        tres_per_node: value(paths, "TresPerNode").and_then(given),
        dependency: text("Dependency"),
        ..JobInfo::new(job_id(ids)?, JobState::parse(pair("JobState")?))
    })
}

/// The cluster's name, of `scontrol show config`: a line a key, as in `ClusterName             = west`.
pub(crate) fn cluster_name(text: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once('='));
    let (_, name) = pairs.find(|(key, _)| key.trim() == "ClusterName")?;
    given(name.trim())
}

/// `JobId=41 ArrayJobId=38 ArrayTaskId=2` is 38_2. Of a whole array's rest, `ArrayTaskId=2-4%1`, it
/// is 38.
fn job_id(ids: &str) -> Option<JobId> {
    let number = value(ids, "ArrayJobId").or_else(|| value(ids, "JobId"))?;
    match value(ids, "ArrayTaskId").and_then(|task| task.parse::<u32>().ok()) {
        Some(task) => format!("{number}_{task}").parse().ok(),
        None => number.parse().ok(),
    }
}

/// The value of `key` among pairs.
fn value<'a>(pairs: &'a str, key: &str) -> Option<&'a str> {
    pairs.split(' ').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
}

/// The value of `key` among those at the end of a line, which may have blanks in them.
fn path(paths: &str, key: &str) -> Option<String> {
    const FOLLOWING: [&str; 9] = [
        " WorkDir=",
        " AdminComment=",
        " SystemComment=",
        " Comment=",
        " StdErr=",
        " StdIn=",
        " StdOut=",
        " Power=",
        " TresPerNode=",
    ];
    let (_, rest) = paths.split_once(&format!(" {key}="))?;
    let end = FOLLOWING.iter().filter_map(|next| rest.find(next)).min().unwrap_or(rest.len());
    given(rest[..end].trim_end())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recorded;
    use crate::{Phase, TimeLimit};

    #[test]
    fn a_running_job_is_read_whole() {
        let info = job(recorded::job_line("running")).unwrap();
        assert_eq!(
            info,
            JobInfo {
                name: "env".into(),
                user: Some("ada".into()),
                partition: Some("main".into()),
                nodes: Some("n[1-2]".into()),
                num_nodes: Some(2),
                batch_host: Some("n1".into()),
                time_limit: Some(TimeLimit::Limited(Duration::from_secs(600))),
                submit_unix_s: unix_seconds("2026-11-22T18:59:38"),
                start_unix_s: unix_seconds("2026-11-22T18:59:39"),
                end_unix_s: unix_seconds("2026-11-22T19:09:39"),
                exit: Some(Exit { code: 0, signal: 0 }),
                restarts: Some(0),
                requeue: Some(true),
                stdout: Some("/scratch/ada/out/1.log".into()),
                work_dir: Some("/scratch/ada".into()),
                memory: Some(Memory::PerNode(500 << 20)),
                tres: Some("cpu=4,node=2,billing=4".into()),
                tres_per_node: Some("gres:gpu:1".into()),
                ..JobInfo::new(JobId::new(1), JobState::Running)
            }
        );
        assert_eq!(info.hosts().unwrap(), ["n1", "n2"]);
    }

    #[test]
    fn every_recorded_job_is_read() {
        let mut states = Vec::new();
        for (name, line) in recorded::job_lines() {
            let info = job(line).unwrap_or_else(|| panic!("{name}"));
            assert_ne!(info.state.phase(), Phase::Unknown, "{name}");
            assert!(info.submit_unix_s.is_some() && info.hosts().is_ok(), "{name}");
            states.push(info.state.name().to_owned());
        }
        states.sort();
        states.dedup();
        assert_eq!(
            states,
            [
                "CANCELLED",
                "COMPLETED",
                "COMPLETING",
                "FAILED",
                "NODE_FAIL",
                "OUT_OF_MEMORY",
                "PENDING",
                "PREEMPTED",
                "RUNNING",
                "SPECIAL_EXIT",
                "STOPPED",
                "SUSPENDED",
                "TIMEOUT"
            ]
        );
    }

    #[test]
    fn a_name_that_looks_like_a_pair_is_a_name() {
        let info = job(recorded::job_line("odd name")).unwrap();
        assert_eq!(info.name, "name with JobState=FAILED spaces");
        assert_eq!((info.state, info.reason), (JobState::Running, Some("Prolog".into())));
        assert_eq!(info.time_limit.unwrap().to_string(), "1-00:00:00");
        assert_eq!(info.work_dir.unwrap(), "/scratch/ada");
        assert_eq!(info.stdout.unwrap(), "/scratch/ada/out/37.log");
    }

    #[test]
    fn a_pending_job_says_what_it_waits_for() {
        let info = job(recorded::job_line("dependency never satisfied")).unwrap();
        assert_eq!(info.reason.unwrap(), "DependencyNeverSatisfied");
        assert_eq!(info.dependency.unwrap(), "afterok:3(failed)");
        assert_eq!((info.nodes, info.start_unix_s), (None, None));
        assert_eq!(info.time_limit, Some(TimeLimit::Unlimited));
    }

    #[test]
    fn tasks_of_an_array_are_named_by_it() {
        let info = job(recorded::job_line("array task")).unwrap();
        assert_eq!(info.job.to_string(), "38_3");
        let info = job(recorded::job_line("array task limit")).unwrap();
        assert_eq!(info.job.to_string(), "13");
    }

    #[test]
    fn memory_may_be_per_cpu() {
        let info = job(recorded::job_line("salloc")).unwrap();
        assert_eq!(info.memory, Some(Memory::PerCpu(50 << 20)));
        assert_eq!(info.tres.unwrap(), "cpu=4,mem=200M,node=2,billing=4,gres/gpu=4");
    }

    #[test]
    fn the_cluster_has_a_name() {
        let text = "Configuration data as of 2026-11-22T19:00:00\nCliFilterPlugins        = (null)\n\
                    ClusterName             = west-1\nCommunicationParameters = (null)\n";
        assert_eq!(cluster_name(text).as_deref(), Some("west-1"));
        assert_eq!(cluster_name("ClusterName = (null)\n"), None);
        assert_eq!(cluster_name("no ClusterName"), None);
    }

    #[test]
    fn a_line_of_something_else_is_no_job() {
        for line in ["", "No jobs in the system", "JobId=1 JobName=x", "JobName=x UserId=a(1) "] {
            assert!(job(line).is_none(), "{line}");
        }
    }
}
