//! The files in a cluster's `etc`, as text.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use super::options::ClusterOptions;
use super::subnet::Subnet;
use super::user::User;

/// The name of node `number`, which is 1 or more.
pub(super) fn node_name(number: usize) -> String {
    format!("n{number}")
}

/// slurm.conf.
pub(super) fn slurm(options: &ClusterOptions, root: &Path, subnet: Subnet) -> String {
    let ClusterOptions { nodes, cpus, memory_mib, gpus, slurmd_timeout_s, kill_wait_s, .. } =
        options;
    let (root, login) = (root.display(), subnet.login());
    // No cgroups and no database, which a test's cluster can't count on. The job of a dead node may
    // start again when its credentials have expired: after 10 s, rather than two minutes.
    let mut text = format!(
        "ClusterName=tests
SlurmctldHost=login({login})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/run/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
SlurmctldPidFile={root}/run/slurmctld.pid
SlurmdPidFile={root}/run/slurmd.%n.pid
SlurmctldLogFile={root}/log/slurmctld.log
SlurmdLogFile={root}/log/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={root}/log/jobcomp.txt
MailProg=/bin/true
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
SlurmctldTimeout=30
SlurmdTimeout={slurmd_timeout_s}
InactiveLimit=0
KillWait={kill_wait_s}
MinJobAge=300
WaitTime=0
PropagateResourceLimits=NONE
"
    );
    text.push_str(&options.conf);
    text.push('\n');
    for number in 1..=*nodes {
        let (name, address) = (node_name(number), subnet.node(number));
        let gres = if *gpus > 0 { format!(" Gres=gpu:{gpus}") } else { String::new() };
        writeln!(
            text,
            "NodeName={name} NodeAddr={address} CPUs={cpus} RealMemory={memory_mib}{gres} \
             State=UNKNOWN"
        )
        .expect("a String takes all");
    }
    text + "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES:8
PartitionName=short Nodes=ALL MaxTime=2 State=UP OverSubscribe=YES:8
"
}

/// gres.conf.
pub(super) fn gres(options: &ClusterOptions, root: &Path) -> String {
    let Some(last) = options.gpus.checked_sub(1) else { return String::new() };
    format!("Name=gpu File={}/dev/gpu[0-{last}]\n", root.display())
}

/// /etc/hosts.
pub(super) fn hosts(machines: &[(String, Ipv4Addr)]) -> String {
    let lines = machines.iter().map(|(name, address)| format!("{address} {name}\n"));
    lines.fold("127.0.0.1 localhost\n".to_owned(), |text, line| text + &line)
}

/// /etc/passwd. The stars: no passwords, nor another file that has them.
pub(super) fn passwd(root: &Path) -> String {
    let line = |user: User| {
        let (name, uid) = (user.name(), user.uid());
        format!("{name}:*:{uid}:{uid}:{name}:{}/home/{name}:/bin/sh\n", root.display())
    };
    let nobody = "nobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n";
    User::ALL.map(line).concat() + nobody
}

/// /etc/group.
pub(super) fn group() -> String {
    let line = |user: User| format!("{}:*:{}:\n", user.name(), user.uid());
    User::ALL.map(line).concat() + "nogroup:*:65534:\n"
}
