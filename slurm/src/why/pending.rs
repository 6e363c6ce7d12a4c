//! What a job waits for.

use super::limits::{node_limit, partition_limit};
use super::{Facts, Verdict, clock, requeued};
use crate::{JobInfo, JobState};

pub(super) fn verdict(job: &JobInfo, facts: &Facts) -> Verdict {
    let id = &job.job;
    let Some(reason) = job.reason.as_deref() else {
        let summary = match job.state {
            JobState::Configuring | JobState::PowerUpNode => {
                format!("job {id} has its nodes, and Slurm is making them ready")
            }
            JobState::Pending => format!("job {id} waits: Slurm has not looked at it yet"),
            _ => format!("job {id} waits in the state {}", job.state),
        };
        return Verdict::new(summary);
    };
    // scontrol writes an underscore for every blank of a reason.
    let plain = reason.replace('_', " ");
    let mut verdict = match known(job, &plain).or_else(|| limited(job, reason)) {
        Some((what, advice)) => {
            let verdict = Verdict::new(format!("job {id} waits: {what}"));
            let verdict = verdict.detail(format!("Slurm's reason: {reason}"));
            advice.into_iter().fold(verdict, Verdict::advise)
        }
        None => Verdict::new(format!("job {id} waits for a reason that Slurm calls {reason}")),
    };
    let limit = match reason {
        "PartitionTimeLimit" => partition_limit(job, facts),
        "PartitionNodeLimit" | "PartitionConfig" => node_limit(job, facts),
        "Dependency" | "DependencyNeverSatisfied" => {
            job.dependency.as_ref().map(|dependency| format!("it depends on {dependency}"))
        }
        _ => None,
    };
    verdict = limit.into_iter().chain(requeued(job)).fold(verdict, Verdict::detail);
    if let (Some(start), Some(now)) = (job.start_unix_s, facts.now_unix_s)
        && start > now
    {
        verdict = verdict.detail(format!("it may start in {}", clock(start - now)));
    }
    verdict
}

/// What Slurm's word for a reason means, and what to do about it.
fn known(job: &JobInfo, reason: &str) -> Option<(String, Option<String>)> {
    let id = &job.job;
    let (word, rest) = reason.split_once([',', ' ']).unwrap_or((reason, ""));
    let cancel = || Some(format!("cancel it (scancel {id}) and submit it otherwise"));
    let release = || Some(format!("scontrol release {id} lets it go on"));
    let admins = || Some("ask those who run the cluster".to_owned());
    let (what, advice) = match word {
        "Priority" => ("other jobs are before it in the queue", start_hint(job)),
        "Resources" => ("the nodes that it needs are in use", start_hint(job)),
        "Dependency" => ("other jobs must end before", None),
        "DependencyNeverSatisfied" => {
            ("a job that it depends on did not end as it should, so that it never starts", cancel())
        }
        "BeginTime" => match job.restarts {
            Some(1..) => ("it was requeued, and Slurm starts such jobs after two minutes", None),
            _ => ("the time at which it may begin has not come", None),
        },
        "JobHeldUser" => ("its user holds it", release()),
        "JobHeldAdmin" => ("an administrator holds it", admins()),
        "JobHoldMaxRequeue" => ("it was requeued too often and is held", release()),
        "Reservation" => ("its reservation has not begun", None),
        "ReservationDeleted" => ("its reservation was deleted", cancel()),
        "ReservationInvalid" => ("its reservation is not valid", cancel()),
        "ReqNodeNotAvail" => return Some(not_available(job.reason.as_deref().unwrap_or_default())),
        "BadConstraints" => ("no nodes are as it asks for (--constraint)", cancel()),
        "PartitionDown" => ("its partition is down and starts no jobs", admins()),
        "PartitionInactive" => ("its partition is inactive and starts no jobs", admins()),
        "PartitionTimeLimit" => ("it asks for more time than its partition allows", cancel()),
        "PartitionNodeLimit" => ("it asks for more nodes than its partition allows", cancel()),
        "PartitionConfig" => ("it asks for what its partition does not have", cancel()),
        "JobArrayTaskLimit" => ("as many tasks of its array run as may at a time", None),
        "Licenses" => ("the licences that it needs are in use", None),
        "Prolog" => ("Slurm is making its nodes ready", None),
        "Cleaning" => ("Slurm is still cleaning up after its last run", None),
        "SchedDefer" | "SchedNotSet" => ("Slurm has not looked at it yet", None),
        "NodeDown" | "FrontEndDown" => ("a node that it needs is down", admins()),
        "SystemFailure" => ("Slurm, its file system or a node failed", admins()),
        "InvalidAccount" => ("its account is not valid (--account)", cancel()),
        "InvalidQOS" => ("its quality of service is not valid (--qos)", cancel()),
        "QOSNotAllowed" => ("its quality of service may not be used here (--qos)", cancel()),
        "QOSUsageThreshold" => ("its account has used more than its quality of service asks", None),
        "AccountingPolicy" => ("a limit of its account or quality of service is reached", None),
        "AssociationJobLimit" => ("its account has as many jobs as it may", None),
        "AssociationResourceLimit" => ("its account uses as much as it may", None),
        "AssociationTimeLimit" => ("its account has used up its time", None),
        "QOSJobLimit" => ("its quality of service has as many jobs as it may", None),
        "QOSResourceLimit" => ("its quality of service uses as much as it may", None),
        "QOSTimeLimit" => ("its quality of service has used up its time", None),
        "MaxMemPerLimit" => ("it asks for more memory per CPU or node than is allowed", cancel()),
        "BurstBufferResources" | "BurstBufferStageIn" | "BurstBufferOperation" => {
            ("its burst buffer is not ready", None)
        }
        "FedJobLock" => ("another cluster of the federation may start it", None),
        "Nodes" if rest.contains("DOWN, DRAINED or reserved") => {
            ("the nodes that it needs are down, drained or reserved", admins())
        }
        "job" if rest == "requeued in held state" => ("it was requeued and is held", release()),
        "launch" if rest == "failed requeued held" => {
            ("Slurm could not start it on its nodes, requeued it and holds it", release())
        }
        _ => return None,
    };
    Some((what.to_owned(), advice))
}

/// squeue works out when a job may start; where it already has, that is a detail.
fn start_hint(job: &JobInfo) -> Option<String> {
    let id = &job.job;
    let unknown = job.start_unix_s.is_none();
    unknown.then(|| format!("squeue --start --jobs={id} says when Slurm expects it to start"))
}

/// `ReqNodeNotAvail, UnavailableNodes:n3`. Names of nodes may have underscores of their own.
fn not_available(reason: &str) -> (String, Option<String>) {
    let advice =
        Some("ask for other nodes, or wait until they are back (sinfo -R says why)".into());
    let nodes = reason.split_once("UnavailableNodes:").map_or("", |(_, nodes)| nodes.trim());
    match nodes {
        "" if reason.contains("reserved") => {
            ("the nodes that it asks for may be reserved for another job".to_owned(), None)
        }
        "" => ("nodes that it asks for are not available".to_owned(), advice),
        nodes => (format!("the nodes {nodes} that it asks for are not available"), advice),
    }
}

/// The reasons of limits, which are put together from parts: `QOSMaxCpuPerUserLimit`,
/// `AssocGrpGRESRunMinutes`, `MaxMemoryPerAccount`.
fn limited(job: &JobInfo, reason: &str) -> Option<(String, Option<String>)> {
    let qos = || job.qos.as_ref().map_or("its QOS".into(), |qos| format!("the QOS {qos}"));
    let account = || {
        job.account
            .as_ref()
            .map_or("its account".into(), |account| format!("the account {account}"))
    };
    let scopes = [("QOS", qos()), ("Assoc", account()), ("", "its QOS or account".to_owned())];
    let found = scopes.into_iter().find_map(|(prefix, who)| {
        let rest = reason.strip_prefix(prefix)?;
        ["Grp", "Max", "Min"]
            .into_iter()
            .find_map(|kind| Some((kind, rest.strip_prefix(kind)?, who.clone())))
    });
    let (kind, rest, who) = found?;
    let rest = rest.strip_suffix("NotSatisfied").or(rest.strip_suffix("Limit")).unwrap_or(rest);
    let (rest, per) = match rest.split_once("Per") {
        Some((rest, per)) => (rest, Some(per.to_lowercase())),
        None => (rest, None),
    };
    let (rest, minutes) = match rest.strip_suffix("RunMinutes").or(rest.strip_suffix("Minutes")) {
        Some(rest) => (rest, "minutes of "),
        None => (rest, ""),
    };
    let what = format!("{minutes}{}", resource(rest)?);
    let per = per.map_or(String::new(), |per| format!(" per {per}"));
    let own = per == " per job" || per == " per node" || rest.starts_with("Wall");
    let less = || Some("ask for less, or for another QOS or account".to_owned());
    Some(match kind {
        "Min" => (format!("{who} asks for more {what} than the job does"), less()),
        "Grp" => {
            (format!("{who} limits {what} of all its jobs together, and that is reached"), None)
        }
        _ if own => (format!("{who} limits {what}{per}, and the job asks for more"), less()),
        _ => (format!("{who} limits {what}{per}, and that is reached"), None),
    })
}

fn resource(part: &str) -> Option<&'static str> {
    Some(match part {
        "Cpu" | "CPU" => "CPUs",
        "Mem" | "Memory" => "memory",
        "Node" => "nodes",
        "GRES" => "generic resources, such as GPUs,",
        "Job" | "Jobs" => "running jobs",
        "SubmitJob" | "SubmitJobs" => "submitted jobs",
        "Wall" | "WallDuration" => "running time",
        "License" => "licences",
        "BB" => "burst buffers",
        "Energy" => "energy",
        "Billing" => "billed use",
        "Unknown" => "a resource",
        _ => return None,
    })
}
