//! A deployment as a batch job: submitted, served from, asked about, and ended, by `shardrun` alone.

use std::fs;
use std::os::unix::fs::chown;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;
use shardrun_tests::slurm::{Cluster, ClusterOptions, User, finish, slurm_or_skip};
use shardrun_tests::{model, until};

/// How long any one command may take: a loaded machine is slow.
const COMMAND: Duration = Duration::from_secs(120);

const USER: User = User::Ada;

/// What a command of the user on the login machine ended with and printed.
#[derive(Debug)]
struct Said {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A cluster, and a deployment of two ranks on two of its nodes in the user's home.
struct Site {
    cluster: Cluster,
    deployment: String,
}

impl Site {
    fn start(model: &PathBuf) -> anyhow::Result<Option<Self>> {
        let options = ClusterOptions { nodes: 2, ..ClusterOptions::default() };
        let Some(cluster) = slurm_or_skip(&options)? else { return Ok(None) };
        // The user's own, since the one that is tested with may be closed to others.
        let copy = cluster.home(USER).join("model.gguf");
        fs::copy(model, &copy)?;
        chown(&copy, Some(USER.uid()), Some(USER.uid()))?;
        let text = "name = \"t\"\nmodel.source = \"model.gguf\"\nmodel.tp_size = 2\nmodel.threads = 1\n\
                    kv_cache.max_tokens = 4096\nserver.host = \"0.0.0.0\"\nserver.allow_remote = true\n\
                    server.http_port = 0\nserver.metrics_port = 0\nslurm.nodes = 2\nslurm.time = \"10\"\n";
        let deployment = cluster.write(USER, "t.toml", text)?.display().to_string();
        Ok(Some(Self { cluster, deployment }))
    }

    fn sh(&self, line: &str) -> anyhow::Result<Said> {
        let mut command = self.cluster.command_as(USER, "sh");
        command.args(["-c", line]);
        let output = finish(command, COMMAND)?;
        let said = Said {
            code: output.status.code().context("it was killed")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        };
        println!("$ {line}\n[{}]\n{}{}", said.code, said.stdout, said.stderr);
        Ok(said)
    }

    /// What `shardrun` prints, which succeeds.
    fn run(&self, arguments: &str) -> anyhow::Result<String> {
        let said = self.sh(&format!("shardrun {arguments}"))?;
        ensure!(said.code == 0, "shardrun {arguments}: {said:?}");
        Ok(said.stdout)
    }

    fn json(&self, arguments: &str) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.run(&format!("{arguments} --json"))?)?)
    }

    /// What `shardrun` complains about, with its exit code.
    fn refused(&self, arguments: &str) -> anyhow::Result<(i32, String)> {
        let said = self.sh(&format!("shardrun {arguments}"))?;
        ensure!(said.code != 0, "shardrun {arguments} succeeds: {said:?}");
        Ok((said.code, said.stderr))
    }

    /// Submits the deployment; gives the job.
    fn submit(&self, more: &str) -> anyhow::Result<String> {
        let (file, command) = (&self.deployment, "submit --json");
        let said: Value = serde_json::from_str(&self.run(&format!("{command} {file} {more}"))?)?;
        Ok(said["job"].as_str().context("no job")?.to_owned())
    }

    /// Waits until a run stands so.
    fn until_is(&self, job: &str, standing: &str) -> anyhow::Result<Value> {
        let look = || self.json(&format!("status {job}"));
        until(&format!("the run to be {standing}"), COMMAND, || {
            Ok(look()?["standing"] == standing)
        })?;
        look()
    }

    /// How many processes of shardrun run on the nodes, and what they have left in shared memory.
    fn left(&self) -> anyhow::Result<(usize, Vec<PathBuf>)> {
        let (mut processes, mut names) = (0, Vec::new());
        for number in [1, 2] {
            let node = self.cluster.node(number)?;
            let programs = ["shardrun", "shardrun-worker", "srun"];
            processes += programs.map(|name| node.pids(name).len()).iter().sum::<usize>();
            let shared = fs::read_dir(node.root().join("dev/shm"))?;
            let shared =
                shared.map(|entry| Ok(entry?.path())).collect::<anyhow::Result<Vec<_>>>()?;
            let ours = format!("shardrun_{}_", USER.uid());
            names.extend(
                shared.into_iter().filter(|path| path.display().to_string().contains(&ours)),
            );
        }
        Ok((processes, names))
    }
}

/// The time limit of a running job is cut: it drains at Slurm's warning, and another job goes on with the
/// same run.
#[test]
fn a_job_whose_time_is_over_is_followed_by_another() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let Some(site) = Site::start(&model)? else { return Ok(()) };
    let keys = "--set slurm.at_time_limit=successor --set slurm.drain_before_s=55 \
                --set slurm.max_requeues=1 -- --comment=kept";
    let first = site.submit(keys)?;
    site.json("endpoint --wait 100")?;
    let run =
        site.json("status last")?["run_dir"].as_str().context("a run has a folder")?.to_owned();
    let said = site.sh(&format!("scontrol update JobId={first} TimeLimit=1"))?;
    ensure!(said.code == 0, "{said:?}");
    let record = || -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&fs::read_to_string(PathBuf::from(&run).join("run.json"))?)?)
    };
    until("another job to follow", COMMAND, || Ok(record()?["job"] != first.as_str()))?;
    let second = record()?["job"].as_str().context("a job")?.to_owned();
    let status = site.until_is(&second, "serving")?;
    ensure!(status["run_dir"] == run.as_str(), "it is the same run: {status}");
    let endpoint = site.json("endpoint --wait 10")?;
    let curl = endpoint["curl"].as_str().context("no curl line")?;
    let answer: Value = serde_json::from_str(&site.sh(curl)?.stdout)?;
    ensure!(answer["text_output"].as_str().is_some_and(|text| text.len() > 40), "{answer}");
    let job = site.sh(&format!("scontrol -o show job {second}"))?.stdout;
    ensure!(job.contains(" Comment=kept "), "it was told the same: {job}");
    ensure!(record()?["successors"] == 1, "{:?}", record());
    let before = site.sh(&format!("scontrol -o show job {first}"))?.stdout;
    ensure!(before.contains("JobState=COMPLETED"), "{before}");

    // Once is all that was allowed.
    let said = site.sh(&format!("scontrol update JobId={second} TimeLimit=1"))?;
    ensure!(said.code == 0, "{said:?}");
    site.until_is(&second, "ended")?;
    ensure!(site.run("logs last")?.contains("not started again: slurm.max_requeues is 1"), "said");
    until("everything to be gone", COMMAND, || Ok(site.left()? == (0, Vec::new())))?;
    Ok(())
}

#[test]
fn a_submitted_deployment_serves_until_it_is_told_to_end() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let Some(site) = Site::start(&model)? else { return Ok(()) };

    let job = site.submit("")?;
    let endpoint = site.json("endpoint --wait 100")?;
    let curl = endpoint["curl"].as_str().context("no curl line")?;
    let answer: Value = serde_json::from_str(&site.sh(curl)?.stdout)?;
    ensure!(answer["text_output"].as_str().is_some_and(|text| text.len() > 40), "{answer}");

    let status = site.json(&format!("status {job}"))?;
    let ranks = status["instances"][0]["ranks"].as_array().context("no ranks")?;
    let hosts: Vec<_> = ranks.iter().filter_map(|rank| rank["host"].as_str()).collect();
    ensure!(status["standing"] == "serving" && hosts == ["n1", "n2"], "{status}");
    ensure!(site.run("list")?.contains("  serving  "), "it is listed");
    ensure!(site.run("logs t")?.contains("t is ready."), "the job's output");
    let ranks = site.run("logs --rank 0 --rank 1 --lines 1")?;
    let prefixes: Vec<_> = ranks.lines().map(|line| &line[..6]).collect();
    ensure!(prefixes == ["[n1 0]", "[n2 1]"], "{ranks}");
    let why = site.run("why last")?;
    ensure!(why.starts_with(&format!("job {job} runs on n[1-2]")), "{why}");
    let (_, error) = site.refused("clean last")?;
    ensure!(error.contains("it is serving"), "{error}");

    ensure!(site.run("drain --dry-run")?.contains("scancel --batch --signal=TERM"), "a dry run");
    site.run("drain")?;
    ensure!(
        site.run("logs --follow --lines 1")?.ends_with("t has ended\n"),
        "it is followed to its end"
    );
    let status = site.until_is(&job, "ended")?;
    ensure!(status["ended"]["code"] == 0 && status["slurm"]["state"] == "COMPLETED", "{status}");
    let why = site.run(&format!("why {job}"))?;
    ensure!(why == format!("job {job} ended by itself, without an error\n"), "{why}");

    // A rank is killed.
    let job = site.submit("")?;
    site.run("endpoint --wait 100")?;
    for pid in site.cluster.node(2)?.pids("shardrun-worker") {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)?;
    }
    let status = site.until_is(&job, "ended")?;
    ensure!(status["ended"]["code"] == 4 && status["slurm"]["state"] == "FAILED", "{status}");
    let why = site.run("why")?;
    ensure!(
        why.contains("failed: rank 1 on n2 (pid ") && why.contains("killed by signal 9"),
        "{why}"
    );

    // One that serves is cancelled.
    site.submit("")?;
    site.run("endpoint --wait 100")?;
    site.run("cancel")?;
    until("nothing to be left", COMMAND, || Ok(site.left()? == (0, Vec::new())))?;
    ensure!(site.run("why")?.contains("was cancelled"), "it is known why");

    let cleaned = site.json("clean --all-ended")?;
    ensure!(cleaned["removed"].as_array().is_some_and(|removed| removed.len() == 3), "{cleaned}");
    ensure!(site.json("list")? == Value::Array(Vec::new()), "nothing is left");
    Ok(())
}

#[test]
fn what_slurm_would_refuse_or_never_start_is_said_and_leaves_nothing() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let Some(site) = Site::start(&model)? else { return Ok(()) };
    let file = &site.deployment;
    for (more, code, expected) in [
        (
            "--set slurm.partition=gpu",
            1,
            "partition \"gpu\" does not exist; there are: main, short",
        ),
        (
            "--set model.threads=9",
            1,
            "asks for 9 CPUs on a node (1 task of 9 CPUs), and its nodes have 4",
        ),
        ("--set model.tp_size=3 --set slurm.nodes=3", 1, "asks for 3 nodes, and it has 2"),
        ("--set slurm.gpus_per_node=3", 1, "asks for 3 GPUs on a node, and its nodes have 2"),
        ("--set slurm.mem=5G", 1, "asks for 5 GiB on a node, and its nodes have 3.9 GiB"),
        ("--set slurm.mem=50M", 1, "slurm.mem is 50 MiB: the share of a node needs"),
        ("--set slurm.time=3", 1, "slurm.time is 00:03:00 and slurm.drain_before_s is 120"),
        ("-- --array=0-1", 1, "--array: a job array is not possible"),
        ("--set slurm.partition=short", 1, "a time of 00:10:00, and it allows 00:02:00"),
        ("--set slurm.mpi=pmix_v1", 1, "slurm.mpi is \"pmix_v1\", and srun has no such MPI plugin"),
        ("--set model.source=none.gguf", 1, "none.gguf"),
        ("-- --time=soon", 3, "Slurm refused: sbatch: error: Invalid --time specification"),
    ] {
        let refused = site.refused(&format!("submit {file} {more}"))?;
        ensure!(refused.0 == code && refused.1.contains(expected), "{more}: {refused:?}");
    }
    let script = site.run(&format!("submit --dry-run {file}"))?;
    let rendered = site.run(&format!("render {file}"))?;
    ensure!(script.trim_end() == rendered.trim_end(), "{script}{rendered}");
    let runs = site.cluster.home(USER).join(".local/state/shardrun");
    ensure!(!runs.exists(), "{} is there", runs.display());
    let (_, error) = site.refused("status")?;
    ensure!(error.contains("you have no runs in"), "{error}");

    // A job that waits.
    let job = site.submit("-- --hold")?;
    ensure!(site.json("status")?["standing"] == "waiting", "it waits");
    let why = site.run(&format!("why {job}"))?;
    ensure!(why.starts_with(&format!("job {job} waits: its user holds it")), "{why}");
    ensure!(site.refused("endpoint --wait 1")?.1.contains("waits in Slurm's queue"), "no endpoint");
    ensure!(site.refused("drain")?.1.contains("has not started"), "nothing to drain");
    site.run("cancel")?;
    ensure!(site.json("status")?["standing"] == "never_started", "it never started");
    site.run("clean last")?;
    ensure!(fs::read_dir(&runs)?.next().is_none(), "its directory is gone");
    Ok(())
}

#[test]
fn a_doctor_looks_at_the_login_machine_and_at_a_node() -> anyhow::Result<()> {
    let Some(model) = model()? else { return Ok(()) };
    let Some(site) = Site::start(&model)? else { return Ok(()) };
    let file = &site.deployment;
    for (where_, host) in [("", "login"), ("--on-node", "n1")] {
        let report = site.json(&format!("doctor {file} {where_}"))?;
        ensure!(report["host"] == host, "{report}");
        let findings = report["findings"].as_array().context("no findings")?;
        let grade = |what: &str| {
            let finding = findings.iter().find(|finding| finding["what"] == what);
            finding.map(|finding| finding["grade"].as_str().unwrap_or_default().to_owned())
        };
        for what in ["worker", "slurm", "partitions", "srun's MPI", "shared memory", "model t"] {
            ensure!(grade(what).as_deref() == Some("ok"), "{what}: {report}");
        }
    }
    let report = site.refused(&format!("doctor {file} --set slurm.mpi=pmi9"))?;
    ensure!(report.0 == 1 && report.1.contains("1 failure on login"), "{report:?}");
    Ok(())
}
