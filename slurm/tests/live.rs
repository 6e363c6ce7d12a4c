//! This crate against a real Slurm: in the partition that SHARDRUN_TEST_SLURM names, which needs two
//! nodes and may be written on from them. Without it these tests say that they skip.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use shardrun_slurm::{
    Allocation, Facts, JobId, JobInfo, JobState, Script, Slurm, SlurmError, Srun, WarningSignal,
    hostlist, why,
};

/// A folder that nodes see, too.
struct Live {
    partition: String,
    folder: tempfile::TempDir,
}

impl Live {
    fn new() -> Option<Self> {
        let Ok(partition) = std::env::var("SHARDRUN_TEST_SLURM") else {
            println!("skipped: SHARDRUN_TEST_SLURM names no partition of a Slurm to test with");
            return None;
        };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Some(Self { partition, folder })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, command: &[&str]) -> Script {
        Script {
            job_name: Some("a \"b\" \\c #d'e  f".into()),
            partition: Some(self.partition.clone()),
            nodes: Some(1),
            mem: Some("50M".into()),
            time_limit: "5".parse().ok(),
            output: Some(self.path("%j.log").to_str().unwrap().to_owned()),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            ..Script::default()
        }
    }

    fn submit(&self, script: &Script) -> Result<JobId, SlurmError> {
        let path = self.path("job.sbatch");
        std::fs::write(&path, script.render().unwrap()).unwrap();
        Ok(Slurm::new().submit(&path, &[])?.job)
    }

    fn log(&self, job: &JobId) -> String {
        std::fs::read_to_string(self.path(&format!("{job}.log"))).unwrap_or_default()
    }
}

fn wait(job: &JobId, what: &str, is: impl Fn(&JobInfo) -> bool) -> JobInfo {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let info = Slurm::new().show(job).unwrap();
        if is(&info) {
            return info;
        }
        assert!(Instant::now() < deadline, "job {job} is not {what}: {info:?}");
        sleep(Duration::from_millis(200));
    }
}

fn ended(job: &JobId) -> JobInfo {
    wait(job, "over", |info| info.state.is_final())
}

#[test]
fn a_job_goes_through_its_life() {
    let Some(live) = Live::new() else { return };
    let mut script = live.script(&["sh", "-c", "echo \"$0 $SHELL_FREE\"; exit 3", "it's $HOME"]);
    script.environment = vec![("SHELL_FREE".into(), "a  'b'".into())];
    script.exec = true;
    let job = live.submit(&script).unwrap();
    let info = ended(&job);
    assert_eq!((&info.job, &info.name), (&job, script.job_name.as_ref().unwrap()));
    assert_eq!((info.state.clone(), info.exit.unwrap().code), (JobState::Failed, 3));
    assert_eq!(info.time_limit, script.time_limit);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(info.end_unix_s.is_some_and(|end| end.abs_diff(now) < 60), "{info:?} at {now}");
    assert_eq!(live.log(&job).lines().next().unwrap(), "it's $HOME a  'b'");
    let verdict = why(&info, &Facts::default());
    assert!(verdict.summary.ends_with("exited with code 3"), "{verdict:?}");
    let jobs = Slurm::new().list(info.user.as_deref().unwrap()).unwrap().jobs;
    let listed = jobs.iter().find(|listed| listed.job == job).unwrap();
    assert_eq!((&listed.name, &listed.state), (&info.name, &info.state));
}

#[test]
fn jobs_are_signalled_requeued_and_cancelled() {
    let Some(live) = Live::new() else { return };
    let slurm = Slurm::new();
    let trap = "trap 'echo got it; exit 5' USR2; echo ready; while :; do sleep 0.1; done";
    let mut script = live.script(&["bash", "-c", trap]);
    script.exec = true;
    script.requeue = Some(true);
    let job = live.submit(&script).unwrap();
    wait(&job, "ready", |_| live.log(&job).contains("ready"));
    slurm.signal(&job, "USR2").unwrap();
    let info = ended(&job);
    assert!(live.log(&job).contains("got it"), "{info:?}");

    let job = live.submit(&script).unwrap();
    wait(&job, "ready", |_| live.log(&job).contains("ready"));
    slurm.requeue(&job).unwrap();
    let info = wait(&job, "requeued", |info| info.restarts == Some(1) && info.state.is_waiting());
    assert_eq!(info.reason.as_deref(), Some("BeginTime"));
    slurm.cancel(&job).unwrap();
    assert_eq!(ended(&job).state.name(), "CANCELLED");
    slurm.cancel(&job).unwrap();
    assert!(matches!(slurm.signal(&job, "TERM"), Err(SlurmError::Refused { .. })));
}

#[test]
fn a_step_over_two_nodes_tells_each_task_its_place() {
    let Some(live) = Live::new() else { return };
    let step = Srun {
        nodes: 2,
        ntasks: 2,
        ntasks_per_node: Some(1),
        label: true,
        command: ["sh", "-c", "env | grep ^SLURM"].map(Into::into).to_vec(),
        ..Srun::default()
    };
    let argv = step.argv().unwrap();
    let mut script = live.script(&argv.iter().map(String::as_str).collect::<Vec<_>>());
    script.nodes = Some(2);
    let job = live.submit(&script).unwrap();
    let info = ended(&job);
    let log = live.log(&job);
    assert_eq!(info.state, JobState::Completed, "{log}");
    let hosts = info.hosts().unwrap();
    for task in 0..2_u32 {
        let mine = format!("{task}: ");
        let get = |name: &str| {
            let lines = log.lines().filter_map(|line| line.strip_prefix(&mine)?.split_once('='));
            let mut values =
                lines.filter(|(key, _)| *key == name).map(|(_, value)| value.to_owned());
            values.next()
        };
        let allocation = Allocation::read(get).unwrap().unwrap();
        assert_eq!((&allocation.job, &allocation.nodes), (&job, &hosts));
        assert_eq!(get("SLURM_PROCID"), Some(task.to_string()));
        assert_eq!(get("SLURMD_NODENAME").as_ref(), Some(&hosts[task as usize]));
    }
}

#[test]
fn what_slurm_refuses_it_says() {
    let Some(live) = Live::new() else { return };
    let slurm = Slurm::new();
    let mut script = live.script(&["true"]);
    script.partition = Some("no-such-partition".into());
    let error = live.submit(&script).unwrap_err().to_string();
    assert!(error.contains("Slurm refused") && error.contains("no-such-partition"), "{error}");
    let partitions = slurm.partitions().unwrap();
    let known = shardrun_slurm::find_partitions(&partitions, &live.partition).unwrap();
    assert!(known[0].num_nodes() >= 2);
    let unknown = shardrun_slurm::find_partitions(&partitions, "no-such").unwrap_err().to_string();
    assert!(unknown.contains(&live.partition), "{unknown}");
    let missing = slurm.show(&"4000000000".parse().unwrap()).unwrap_err();
    assert!(matches!(missing, SlurmError::UnknownJob { .. }), "{missing}");
    let script = Script {
        nodes: Some(2),
        ntasks_per_node: Some(1),
        cpus_per_task: Some(1),
        time_limit: "0-00:30:30".parse().ok(),
        exclusive: true,
        append: true,
        requeue: Some(false),
        signal: Some(WarningSignal { name: "USR2".into(), seconds: 60, batch_only: true }),
        output: Some(live.path("with blanks %j.log").to_str().unwrap().to_owned()),
        extra_directives: vec!["--mail-type=NONE".into(), "--comment=\"a b\"".into()],
        ..live.script(&["true"])
    };
    let path = live.path("valid.sbatch");
    std::fs::write(&path, script.render().unwrap()).unwrap();
    assert!(slurm.validate(&path, &[]).unwrap().contains("to start at"));
}

#[test]
fn versions_and_plugins_are_told() {
    let Some(_live) = Live::new() else { return };
    let slurm = Slurm::new();
    assert!(slurm.available());
    assert!(slurm.version().unwrap().starts_with(|c: char| c.is_ascii_digit()));
    assert!(slurm.mpi_plugins().unwrap().contains(&"none".to_owned()));
}

#[test]
fn host_lists_are_what_scontrol_makes_of_them() {
    let Some(_live) = Live::new() else { return };
    let lists =
        ["n[1-3,7],gpu-[001-010]x[1-2]", "a[1-2]b[3-4]c[5-6]", "n[08-12],n[099-101]", "n[3,1]"];
    for list in lists {
        let output = Command::new("scontrol").args(["show", "hostnames", list]).output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        let hosts = hostlist::expand(list).unwrap();
        assert_eq!(hosts, names.lines().collect::<Vec<_>>());
        let output = Command::new("scontrol").args(["show", "hostlist", &hosts.join(",")]).output();
        let compressed = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(hostlist::compress(&hosts), compressed.trim());
    }
}
