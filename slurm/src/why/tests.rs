use super::*;
use crate::read::{sacct, scontrol};
use crate::{Exit, JobId, JobState, Memory, NodeGroup, recorded};

fn job(name: &str) -> JobInfo {
    scontrol::job(recorded::job_line(name)).unwrap()
}

fn bare(name: &str) -> Verdict {
    why(&job(name), &Facts::default())
}

fn with_log(name: &str, log: &str) -> Verdict {
    why(&job(name), &Facts { log_tail: recorded::log(log), ..Facts::default() })
}

/// The verdict on a job that failed with code 1 and logged this.
fn failed_with(lines: &[&str]) -> Verdict {
    let mut job = JobInfo::new(JobId::new(9), JobState::Failed);
    job.exit = Exit::parse("1:0");
    let log_tail = lines.iter().map(|line| (*line).to_owned()).collect();
    why(&job, &Facts { log_tail, ..Facts::default() })
}

#[test]
fn every_recorded_job_has_a_sentence() {
    for (name, line) in recorded::job_lines() {
        let info = scontrol::job(line).unwrap();
        let verdict = why(&info, &Facts::default());
        let summary = &verdict.summary;
        assert!(summary.contains(&format!("ob {}", info.job)), "{name}: {summary}");
        assert!(!summary.contains("that Slurm calls"), "{name}: {summary}");
        assert!(!summary.ends_with('.'), "{name}: {summary}");
    }
}

#[test]
fn waiting_jobs_say_for_what() {
    let summary = |name| bare(name).summary;
    assert_eq!(summary("priority"), "job 15 waits: other jobs are before it in the queue");
    assert_eq!(summary("resources"), "job 14 waits: the nodes that it needs are in use");
    assert_eq!(summary("held by the user"), "job 7 waits: its user holds it");
    assert_eq!(
        summary("node not available"),
        "job 31 waits: the nodes n3 that it asks for are not available"
    );
    assert_eq!(
        summary("qos cpus per user"),
        "job 9 waits: the QOS tight limits CPUs per user, and that is reached"
    );
    assert_eq!(
        summary("qos wall time"),
        "job 10 waits: the QOS tight limits running time per job, and the job asks for more"
    );
    assert_eq!(
        summary("association group cpus"),
        "job 12 waits: the account lab limits CPUs of all its jobs together, and that is reached"
    );
    assert_eq!(
        summary("prolog failed, requeued and held"),
        "job 30 waits: Slurm could not start it on its nodes, requeued it and holds it"
    );
    assert_eq!(summary("special exit"), "job 27 waits: it was requeued and is held");
    let requeued = bare("preempted and requeued").details;
    assert!(requeued.contains(&"it was requeued once".to_owned()), "{requeued:?}");
    assert_eq!(
        summary("preempted and requeued"),
        "job 16 waits: it was requeued, and Slurm starts such jobs after two minutes"
    );
}

#[test]
fn a_hold_says_how_to_end_it_and_a_dead_end_that_it_is_one() {
    assert_eq!(bare("held by the user").advice.unwrap(), "scontrol release 7 lets it go on");
    let never = bare("dependency never satisfied");
    assert!(never.summary.ends_with("so that it never starts"), "{never:?}");
    assert!(never.details.contains(&"it depends on afterok:3(failed)".to_owned()), "{never:?}");
    assert!(never.advice.unwrap().contains("scancel 8"));
}

fn partitions() -> Vec<Partition> {
    let group = NodeGroup {
        nodes: "n[1-2]".into(),
        count: 2,
        idle: 0,
        cpus: None,
        memory_bytes: None,
        gres: None,
    };
    vec![Partition {
        name: "short".into(),
        default: false,
        up: true,
        time_limit: "30".parse().ok(),
        max_nodes: Some(1),
        groups: vec![group],
    }]
}

#[test]
fn limits_of_a_partition_come_with_numbers() {
    let facts = Facts { partitions: partitions(), ..Facts::default() };
    let verdict = why(&job("partition time limit"), &facts);
    assert!(
        verdict
            .details
            .contains(&"partition short allows 00:30:00, the job asks for 02:00:00".to_owned()),
        "{verdict:?}"
    );
    let verdict = why(&job("partition node limit"), &facts);
    assert!(
        verdict.details.contains(
            &"nodes: partition short allows 1 a job and has 2, the job asks for 2".to_owned()
        ),
        "{verdict:?}"
    );
}

#[test]
fn an_expected_start_is_told() {
    let mut info = job("resources");
    info.start_unix_s = Some(1000);
    let verdict = why(&info, &Facts { now_unix_s: Some(880), ..Facts::default() });
    assert!(verdict.details.contains(&"it may start in 00:02:00".to_owned()), "{verdict:?}");
    assert_eq!(verdict.advice, None);
}

#[test]
fn reasons_of_limits_are_put_together_from_parts() {
    let summary = |reason: &str| {
        let mut info = JobInfo::new(JobId::new(1), JobState::Pending);
        info.reason = Some(reason.to_owned());
        why(&info, &Facts::default()).summary
    };
    for (reason, words) in [
        ("QOSGrpGRES", "its QOS limits generic resources, such as GPUs, of all its jobs together"),
        ("QOSMaxJobsPerUserLimit", "its QOS limits running jobs per user, and that is reached"),
        ("QOSMaxGRESPerUser", "its QOS limits generic resources, such as GPUs, per user"),
        ("QOSMaxCpuMinutesPerJobLimit", "its QOS limits minutes of CPUs per job, and the job asks"),
        ("AssocGrpCPURunMinutesLimit", "its account limits minutes of CPUs of all its jobs"),
        ("AssocMaxJobsLimit", "its account limits running jobs, and that is reached"),
        ("AssocMaxWallDurationPerJobLimit", "its account limits running time per job, and the job"),
        ("MaxMemoryPerAccount", "its QOS or account limits memory per account, and that is"),
        ("QOSMinGRES", "its QOS asks for more generic resources, such as GPUs, than the job does"),
        ("QOSMinCpuNotSatisfied", "its QOS asks for more CPUs than the job does"),
        ("QOSGrpWallLimit", "its QOS limits running time of all its jobs together"),
    ] {
        let summary = summary(reason);
        assert!(summary.starts_with(&format!("job 1 waits: {words}")), "{reason}: {summary}");
    }
    for unknown in ["Sleepy", "QOSMaxDreamsPerUser", "AssocGrp", "JobHeldByMoon"] {
        let expected = format!("job 1 waits for a reason that Slurm calls {unknown}");
        assert_eq!(summary(unknown), expected);
    }
}

#[test]
fn every_reason_that_slurm_may_give_for_waiting_is_put_into_words() {
    for reason in include_str!("../../tests/recorded/reasons.txt").lines() {
        let mut info = JobInfo::new(JobId::new(1), JobState::Pending);
        info.reason = Some(reason.to_owned());
        let verdict = why(&info, &Facts::default());
        assert!(!verdict.summary.contains("that Slurm calls"), "{verdict:?}");
        assert!(verdict.details.contains(&format!("Slurm's reason: {reason}")), "{verdict:?}");
    }
}

#[test]
fn out_of_memory_is_told_with_numbers_however_it_shows() {
    let summary = |name, log| with_log(name, log).summary;
    assert_eq!(
        summary("out of memory", "out of memory"),
        "step 35.batch of job 35 ran out of memory: it had asked for 60 MiB on each node"
    );
    assert_eq!(
        bare("out of memory").summary,
        "job 35 ran out of memory: it had asked for 60 MiB on each node"
    );
    // Slurm calls these failed: a launch failure, and an ordinary exit.
    assert_eq!(
        summary("failed over memory", "over memory"),
        "step 5.batch of job 5 ran out of memory: it used 314 MiB and was allowed 30 MiB"
    );
    assert_eq!(
        summary("failed step out of memory", "step out of memory"),
        "step 36.0 of job 36 ran out of memory: it had asked for 60 MiB on each node"
    );
    let info = sacct::job(include_str!("../../tests/recorded/sacct.txt"), &JobId::new(36)).unwrap();
    assert_eq!(
        why(&info, &Facts::default()).summary,
        "step 36.0 of job 36 ran out of memory: it had asked for 60 MiB in all"
    );
    let verdict = with_log("failed step over memory", "step over memory");
    assert_eq!(verdict.advice.unwrap(), "ask for more memory (--mem), or let the ranks use less");
    assert!(verdict.details.iter().any(|detail| detail.contains("328245248 > 31457280")));
}

#[test]
fn measured_memory_is_a_detail() {
    let mut info = JobInfo::new(JobId::new(3), JobState::OutOfMemory);
    info.memory = Some(Memory::PerCpu(2 << 30));
    info.max_rss_bytes = Some(3 << 29);
    let verdict = why(&info, &Facts::default());
    assert_eq!(verdict.summary, "job 3 ran out of memory: it had asked for 2 GiB for each CPU");
    assert_eq!(verdict.details, ["the largest measured use was 1.5 GiB"]);
}

#[test]
fn ends_by_slurm_say_what_ended_the_job() {
    let limit = with_log("time limit", "time limit");
    assert_eq!(limit.summary, "job 23 reached its time limit of 00:01:00 and was ended");
    assert!(limit.advice.unwrap().contains("--time"));
    assert_eq!(
        with_log("node failed", "node failed").summary,
        "job 22 was ended because node n3 failed"
    );
    assert_eq!(
        bare("node failed").summary,
        "job 22 was ended because one of its nodes n[2-3] failed"
    );
    assert_eq!(
        with_log("preempted", "preempted").summary,
        "job 18 was preempted: a job of higher priority took its nodes"
    );
}

#[test]
fn a_cancelled_job_says_by_whom_if_anyone_knows() {
    assert_eq!(bare("cancelled while it ran").summary, "job 1 was cancelled");
    assert_eq!(bare("cancelled while it waited").summary, "job 14 was cancelled before it started");
    let info = sacct::job(include_str!("../../tests/recorded/sacct.txt"), &JobId::new(4)).unwrap();
    assert_eq!(
        why(&info, &Facts::default()).summary,
        "job 4 was cancelled by the user with id 1000"
    );
}

#[test]
fn a_job_that_failed_says_how() {
    assert_eq!(
        bare("failed with code 3").summary,
        "job 2 failed: its batch script exited with code 3"
    );
    // Slurm's reason is JobLaunchFailure.
    let killed = bare("failed by signal 9");
    assert_eq!(
        killed.summary,
        "job 3 failed: its batch script or what it ran was killed by SIGKILL (9)"
    );
    assert_eq!(killed.details, ["exit code 0:9"]);
    let output = bare("output file could not be opened");
    assert_eq!(output.summary, "Slurm could not set up the batch script of job 34");
    assert_eq!(bare("completed").summary, "job 1 ended by itself, without an error");
    let mut launch = JobInfo::new(JobId::new(5), JobState::Failed);
    launch.reason = Some("JobLaunchFailure".into());
    let verdict = why(&launch, &Facts::default());
    assert_eq!(verdict.summary, "Slurm could not start job 5 on its nodes");
}

#[test]
fn a_wrong_pmi_is_recognised() {
    for log in ["mpi pmi2", "mpi none"] {
        let verdict = with_log("failed with code 3", log);
        assert!(verdict.summary.contains("(PMI)"), "{log}: {verdict:?}");
        assert!(verdict.advice.unwrap().contains("srun --mpi=list"));
    }
    let alone = failed_with(&["[n1 rank 0] 1 rank was started and model.tp_size is 2"]);
    assert!(alone.summary.contains("no rank knew of the others"), "{alone:?}");
    let mpich = failed_with(&["Fatal error in internal_Init: PMI2_Init failed"]);
    assert!(mpich.summary.contains("(PMI)"), "{mpich:?}");
}

#[test]
fn a_plugin_that_srun_does_not_have_is_named() {
    let verdict = with_log("failed with code 3", "unknown mpi plugin");
    assert_eq!(verdict.summary, "job 2 failed: srun here has no MPI plugin foo");
    for line in [
        "srun: error: Invalid MPI type 'pmix', --mpi=list for acceptable types",
        "slurm: not found: mpi plugin pmix",
    ] {
        let verdict = failed_with(&[line]);
        assert_eq!(verdict.summary, "job 9 failed: srun here has no MPI plugin pmix");
    }
}

#[test]
fn steps_that_could_not_start_say_why() {
    assert_eq!(
        with_log("failed with code 3", "missing worker").summary,
        "job 2 failed: a node could not start /no/such/worker: No such file or directory"
    );
    assert_eq!(
        with_log("failed with code 3", "too many nodes").summary,
        "job 2 failed: Slurm refused a step: Only allocated 2 nodes asked for 3"
    );
}

#[test]
fn who_died_first_is_named() {
    assert_eq!(
        with_log("failed with code 3", "task killed").summary,
        "job 2 failed: task 1 on n2: Killed"
    );
    let line = "shardrun: rank 1 on n2 (pid 101) was killed by signal 9 (SIGKILL)";
    let verdict = failed_with(&["srun: error: n1: task 0: Exited with exit code 4", line]);
    assert_eq!(
        verdict.summary,
        "job 9 failed: rank 1 on n2 (pid 101) was killed by signal 9 (SIGKILL)"
    );
    assert!(verdict.advice.unwrap().contains("out of memory"));
    for end in ["exited with code 3", "failed: no such model", "gave no heartbeat for 5.0 s: hung"]
    {
        let verdict = failed_with(&[&format!("12:00 rank 10 on n-1.x (pid 7) {end}")]);
        assert_eq!(verdict.summary, format!("job 9 failed: rank 10 on n-1.x (pid 7) {end}"));
        assert_eq!(verdict.advice, None);
    }
}

#[test]
fn what_slurm_ended_did_not_end_of_memory() {
    let line = "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=9.0.";
    for (state, words) in [
        ("CANCELLED by 1000", "was cancelled by the user with id 1000 before it started"),
        ("TIMEOUT", "reached its time limit and was ended"),
        ("PREEMPTED", "was preempted: a job of higher priority took its nodes"),
        ("NODE_FAIL", "was ended because one of its nodes failed"),
        ("DEADLINE", "was ended at the deadline that it was given"),
    ] {
        let mut info = JobInfo::new(JobId::new(9), JobState::parse(state));
        info.steps_out_of_memory = vec!["9.0".into()];
        let verdict = why(&info, &Facts { log_tail: vec![line.into()], ..Facts::default() });
        assert_eq!(verdict.summary, format!("job 9 {words}"));
        for detail in ["step 9.0 ran out of memory", &format!("its log says: {line}")] {
            assert!(verdict.details.contains(&detail.to_owned()), "{verdict:?}");
        }
    }
    assert!(failed_with(&[line]).summary.starts_with("step 9.0 of job 9 ran out of memory"));
}

#[test]
fn a_death_in_a_cancelled_job_is_a_detail() {
    let log_tail = vec!["rank 1 on n2 (pid 7) was killed by signal 11 (SIGSEGV)".to_owned()];
    let facts = Facts { log_tail, ..Facts::default() };
    let cancelled = why(&job("cancelled while it ran"), &facts);
    assert_eq!(cancelled.summary, "job 1 was cancelled");
    let first = "first to die: rank 1 on n2 (pid 7) was killed by signal 11 (SIGSEGV)";
    assert!(cancelled.details.contains(&first.into()), "{cancelled:?}");
}

#[test]
fn ordinary_lines_are_no_clues() {
    let verdict = failed_with(&[
        "rank 1 on n2 (pid 9) serves",
        "rank 0 is ready",
        "srun: error: n1: task 0: Terminated",
        "srun: error: something else",
        "the oom score is 7",
    ]);
    assert_eq!(verdict.summary, "job 9 failed: its batch script exited with code 1");
}

#[test]
fn a_running_job_says_since_when_and_for_how_long() {
    let info = job("running");
    let now = info.start_unix_s.map(|start| start + 100);
    let verdict = why(&info, &Facts { now_unix_s: now, ..Facts::default() });
    assert_eq!(verdict.summary, "job 1 runs on n[1-2]");
    assert_eq!(verdict.details, ["it started 00:01:40 ago", "its time is up in 00:08:20"]);
    let summary = |name| bare(name).summary;
    assert_eq!(
        summary("odd name"),
        "job 37 has its nodes on n[1-2], and Slurm is making them ready"
    );
    assert_eq!(summary("suspended"), "job 26 is suspended on n1: its processes stand still");
    assert_eq!(bare("stopped").advice.unwrap(), "scancel --signal=CONT --full 26 lets it go on");
    assert!(summary("completing").starts_with("job 42 is ending on n1:"));
    let mut again = job("suspended");
    again.restarts = Some(2);
    let facts = Facts { log_tail: recorded::log("node failed"), ..Facts::default() };
    assert_eq!(
        why(&again, &facts).details,
        ["it was requeued 2 times", "its log says: srun: error: Node failure on n3"]
    );
    let unknown = JobInfo::new(JobId::new(1), JobState::parse("DREAMING"));
    assert_eq!(
        why(&unknown, &Facts::default()).summary,
        "job 1 is in the state DREAMING, which shardrun does not know"
    );
}
