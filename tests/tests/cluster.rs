//! The cluster that stories of Slurm are told on: that it is one, can be hurt, and goes without a trace.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use shardrun_tests::slurm::{
    Cluster, ClusterOptions, Machine, User, finish, said, slurm_or_skip, started_by,
};
use shardrun_tests::until;

/// How long a job of no work may take on a loaded machine.
const JOB: Duration = Duration::from_secs(60);
/// How long it may take until the controller has noticed that a node is gone or there again.
const NOTICED: Duration = Duration::from_secs(60);
/// slurmd's port, the default one: the network is the cluster's own.
const SLURMD: u16 = 6818;

/// Two nodes; that one is gone is noticed soon.
fn pair() -> ClusterOptions {
    let conf = "MessageTimeout=4\nTCPTimeout=1".to_owned();
    ClusterOptions { nodes: 2, slurmd_timeout_s: 5, conf, ..ClusterOptions::default() }
}

/// What `words` say on the login machine.
fn run(cluster: &Cluster, words: &[&str]) -> anyhow::Result<String> {
    let mut command = cluster.command(words[0]);
    command.args(&words[1..]);
    said(command, JOB)
}

/// Runs a script on a machine.
fn sh(machine: &Machine, script: &str) -> anyhow::Result<String> {
    let mut command = machine.command("sh");
    command.args(["-c", script]);
    said(command, JOB)
}

fn reaches(address: Ipv4Addr) -> bool {
    let socket = SocketAddr::from((address, SLURMD));
    TcpStream::connect_timeout(&socket, Duration::from_secs(1)).is_ok()
}

#[test]
fn nodes_are_machines_of_their_own() -> anyhow::Result<()> {
    let began = Instant::now();
    let Some(cluster) = slurm_or_skip(&ClusterOptions::default())? else { return Ok(()) };
    println!("started after {:.2?}", began.elapsed());

    let script = "echo $(uname -n) $(ip -4 -o address show dev eth0 | awk '{print $4}')";
    let text = run(&cluster, &["srun", "--nodes=3", "sh", "-c", script])?;
    let seen: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, address)| (name.to_owned(), address.to_owned()))
        .collect();
    let mut expected = BTreeMap::new();
    for number in 1..=3 {
        let node = cluster.node(number)?;
        expected.insert(node.name().to_owned(), format!("{}/24", node.address()));
        ensure!(reaches(node.address()), "this machine reaches {}", node.name());
    }
    ensure!(seen == expected, "{seen:?}, not {expected:?}");

    // Each has files of its own, and all share one folder.
    let (one, two) = (cluster.node(1)?, cluster.node(2)?);
    let here = cluster.home(User::Root).join("file").display().to_string();
    for (path, is_shared) in [("/tmp/file", false), ("/dev/shm/file", false), (&here, true)] {
        sh(one, &format!("echo text > {path}"))?;
        let looked = sh(two, &format!("test ! -e {path} || cat {path}"))?;
        ensure!((looked == "text\n") == is_shared, "{path} is shared: {is_shared}; {looked:?}");
        ensure!(Path::new(path).exists() == is_shared, "{path} on this machine");
        ensure!(one.root().join(&path[1..]).exists(), "this machine can look at {path}");
    }
    // ... and processes.
    ensure!(one.pids("slurmd").len() == 1, "{:?}", one.pids("slurmd"));
    ensure!(one.pids("slurmd") != two.pids("slurmd"), "they are different ones");
    ensure!(cluster.login().pids("slurmd").is_empty(), "nobody computes on the login machine");
    ensure!(sh(two, "getent hosts n1")?.starts_with(&one.address().to_string()), "names are known");
    Ok(())
}

#[test]
fn ranks_on_several_nodes_agree_on_sums() -> anyhow::Result<()> {
    let Some(cluster) = slurm_or_skip(&ClusterOptions::default())? else { return Ok(()) };
    let program = cluster.program("collectives")?.display().to_string();
    let scene = [&program, "sums", "mpi", "sums_"];
    let expect_sums = |said: &str| {
        let done = (0..3).all(|rank| said.lines().any(|line| line == format!("rank {rank}: done")));
        ensure!(done, "not all ranks are done:\n{said}");
        Ok(())
    };
    let three = ["--nodes=3", "--ntasks-per-node=1"];
    let srun = [&["srun", "--mpi=pmix"], &three[..], &scene].concat();
    expect_sums(&run(&cluster, &srun)?)?;
    let mpirun = [&["salloc"], &three[..], &["mpirun"], &scene].concat();
    expect_sums(&run(&cluster, &mpirun)?)?;

    // As a batch job that is told nothing, by somebody who isn't root.
    let script = format!("#!/bin/sh\nexport SLURM_EXPORT_ENV=ALL\nmpirun {}\n", scene.join(" "));
    let script = cluster.write(User::Ada, "job.sh", &script)?.display().to_string();
    let job = cluster
        .submit(User::Ada, &[&three[..], &["--export=NONE", "--output=said", &script]].concat())?;
    let job = cluster.wait_for_job(job, JOB, |job| job.state() == "COMPLETED")?;
    ensure!(job.field("NumNodes") == "3", "{job:?}");
    expect_sums(&fs::read_to_string(cluster.home(User::Ada).join("said"))?)
}

#[test]
fn two_users_share_a_node() -> anyhow::Result<()> {
    let Some(cluster) = slurm_or_skip(&pair())? else { return Ok(()) };
    let job = cluster.submit(User::Ada, &["--nodelist=n1", "--wrap=id -un > who; sleep 600"])?;
    cluster.wait_for_job(job, JOB, |job| job.state() == "RUNNING")?;
    let mut beside = cluster.command_as(User::Ben, "srun");
    beside.args(["--nodelist=n1", "id", "-un"]);
    ensure!(said(beside, JOB)? == "ben\n", "a job is its user's");
    until("the job to say whose it is", JOB, || {
        let who = fs::read_to_string(cluster.home(User::Ada).join("who"));
        Ok(who.is_ok_and(|who| who == "ada\n"))
    })?;

    let mut look = cluster.command_as(User::Ben, "ls");
    look.arg(cluster.home(User::Ada));
    ensure!(!finish(look, JOB)?.status.success(), "a home is its user's");
    let cancel = |user| {
        let mut command = cluster.command_as(user, "scancel");
        command.arg(job.to_string());
        finish(command, JOB)
    };
    let refused = cancel(User::Ben)?;
    let errors = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(errors.contains("Access/permission denied"), "Ben cancels Ada's job: {refused:?}");
    ensure!(cluster.job(job)?.state() == "RUNNING", "it goes on");
    cancel(User::Ada)?;
    cluster.wait_for_job(job, JOB, |job| job.state() == "CANCELLED")?;
    cluster.wait_idle(JOB)
}

#[test]
fn a_node_without_power_is_down_until_it_is_back() -> anyhow::Result<()> {
    let Some(mut cluster) = slurm_or_skip(&pair())? else { return Ok(()) };
    let job = cluster.submit(User::Root, &["--nodelist=n2", "--requeue", "--wrap=sleep 600"])?;
    cluster.wait_for_job(job, JOB, |job| job.state() == "RUNNING")?;
    let node = cluster.node(2)?;
    let address = node.address();
    let pids = node.everything();
    let began = Instant::now();
    cluster.power_off(2)?;
    let alive = |pid: &&i32| Path::new(&format!("/proc/{pid}")).exists();
    let left: Vec<&i32> = pids.iter().filter(alive).collect();
    ensure!(left.is_empty() && pids.len() > 3, "{left:?} of {pids:?} run without power");
    ensure!(!reaches(address) && cluster.node(2).is_err(), "it is off");
    cluster.wait_for_node(2, NOTICED, |state| state.starts_with("DOWN"))?;
    println!("down after {:.2?}", began.elapsed());
    cluster.wait_for_job(job, NOTICED, |job| job.state() == "PENDING")?;

    let began = Instant::now();
    cluster.power_on(2)?;
    cluster.wait_for_node(2, NOTICED, |state| state == "IDLE")?;
    println!("back after {:.2?}", began.elapsed());
    ensure!(reaches(address), "it has its address");
    cluster.wait_for_job(job, NOTICED, |job| job.state() == "RUNNING")?;
    println!("running again after {:.2?}", began.elapsed());
    ensure!(cluster.job(job)?.field("Restarts") == "1", "{:?}", cluster.job(job)?);
    Ok(())
}

#[test]
fn a_node_without_a_cable_works_alone() -> anyhow::Result<()> {
    let Some(cluster) = slurm_or_skip(&pair())? else { return Ok(()) };
    let (one, two) = (cluster.node(1)?.address(), cluster.node(2)?.address());
    let mut sleep = cluster.on_node(2, "sleep")?;
    let mut sleep = sleep.arg("600").spawn()?;
    let sleeping = started_by(&sleep)?;
    cluster.unplug(2)?;
    ensure!(reaches(one) && !reaches(two), "only one is reached");
    let began = Instant::now();
    cluster.wait_for_node(2, NOTICED, |state| state.contains("NOT_RESPONDING"))?;
    println!("missed after {:.2?}", began.elapsed());
    ensure!(cluster.node(2)?.pids("sleep").contains(&sleeping), "its processes go on");

    cluster.plug(2)?;
    cluster.wait_for_node(2, NOTICED, |state| state == "IDLE")?;
    ensure!(reaches(two), "it is reached again");
    // Who ends what is outside ends what is inside.
    sleep.kill()?;
    sleep.wait()?;
    until("it to end", JOB, || Ok(!cluster.node(2)?.pids("sleep").contains(&sleeping)))?;
    Ok(())
}

#[test]
fn nothing_of_a_cluster_stays() -> anyhow::Result<()> {
    let Some(cluster) = slurm_or_skip(&pair())? else { return Ok(()) };
    let Some(other) = slurm_or_skip(&pair())? else { return Ok(()) };
    ensure!(other.login().address() != cluster.login().address(), "there may be several");
    // Somebody who would stay.
    let script = "trap '' TERM HUP INT; echo | setsid sleep 600 & sleep 600";
    cluster.submit(User::Ada, &["--nodes=2", &format!("--wrap={script}")])?;
    until("the job to run", JOB, || Ok(cluster.node(1)?.pids("sleep").len() >= 2))?;
    let folder = cluster.folder().to_owned();
    let pids = cluster.pids();
    let [_, _, network, _] = cluster.login().address().octets();
    let link = || fs::read_to_string(format!("/sys/class/net/shardrun{network}/ifindex")).ok();
    let index = link().context("it has a link")?;

    let began = Instant::now();
    drop(cluster);
    println!("gone after {:.2?}", began.elapsed());
    let left: Vec<_> = pids.iter().filter_map(|pid| Some((pid, command_line(*pid)?))).collect();
    ensure!(left.is_empty(), "these live: {left:?}");
    ensure!(!folder.exists(), "its folder is there");
    // Another may have the name already.
    ensure!(link().as_ref() != Some(&index), "its link is there");
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(&folder.display().to_string()), "something is mounted:\n{mounts}");
    let names = run(&other, &["srun", "--nodes=2", "uname", "-n"])?;
    ensure!(names.lines().count() == 2, "the other cluster goes on: {names}");
    Ok(())
}

fn command_line(pid: i32) -> Option<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    Some(String::from_utf8_lossy(&bytes).replace('\0', " "))
}
