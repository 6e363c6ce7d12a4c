use std::fs;

use tempfile::TempDir;

use super::*;
use crate::JobState;

/// Programs that write what Slurm's wrote, in a folder of their own.
struct Fakes(TempDir);

impl Fakes {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A program that is this shell script.
    fn with(self, program: &str, script: &str) -> Self {
        let path = self.0.path().join(program);
        // Written by another process: one that this one forks for another test meanwhile would keep
        // the file open, and a program that is being written can't be run.
        let written = Command::new("sh")
            .args(["-c", "printf '#!/bin/sh\n%s\n' \"$2\" > \"$1\" && chmod 755 \"$1\"", "sh"])
            .args([path.as_os_str(), OsStr::new(script)])
            .status();
        assert!(written.unwrap().success());
        self
    }

    /// A program that writes this, and leaves its arguments in a file.
    fn writing(self, program: &str, stdout: &str, stderr: &str, code: i32) -> Self {
        for (text, name) in [(stdout, "out"), (stderr, "err")] {
            fs::write(self.0.path().join(format!("{program}.{name}")), text).unwrap();
        }
        let script = format!(
            "f=\"${{0%/*}}/{program}\"; printf '%s\\n' \"$@\" > $f.args; cat $f.out; cat $f.err >&2; \
             exit {code}"
        );
        self.with(program, &script)
    }

    fn slurm(&self) -> Slurm {
        Slurm::new().with_programs_in(self.0.path())
    }

    fn arguments(&self, program: &str) -> String {
        let text = fs::read_to_string(self.0.path().join(format!("{program}.args"))).unwrap();
        text.trim().replace('\n', " ")
    }
}

fn id(text: &str) -> JobId {
    text.parse().unwrap()
}

const DISABLED: &str = "Slurm accounting storage is disabled\n";
const UNKNOWN: &str = "slurm_load_jobs error: Invalid job id specified\n";
const SACCT: &str = include_str!("../../tests/recorded/sacct.txt");

#[test]
fn a_submitted_job_has_a_number() {
    let fakes = Fakes::new().writing("sbatch", "1234\n", "", 0);
    let options = ["--nodes=2".to_owned()];
    let submitted = fakes.slurm().submit(Path::new("/r/job.sbatch"), &options).unwrap();
    assert_eq!(submitted, Submitted { job: JobId::new(1234), notices: String::new() });
    assert_eq!(fakes.arguments("sbatch"), "--parsable --nodes=2 /r/job.sbatch");
}

#[test]
fn a_cluster_and_a_sites_notices_are_kept() {
    let fakes = Fakes::new().writing("sbatch", "Welcome!\n77;west\n", "sbatch: be nice\n", 0);
    let submitted = fakes.slurm().submit(Path::new("job.sbatch"), &[]).unwrap();
    assert_eq!((submitted.job, &submitted.notices[..]), (id("77;west"), "sbatch: be nice"));
    assert_eq!(fakes.arguments("sbatch"), "--parsable ./job.sbatch");
}

#[test]
fn a_refusal_is_sbatchs_own_words() {
    let words = "sbatch: error: invalid partition specified: nosuch\n\
                 sbatch: error: Batch job submission failed: Invalid partition name specified\n";
    let fakes = Fakes::new().writing("sbatch", "", words, 1);
    let error = fakes.slurm().submit(Path::new("/j"), &[]).unwrap_err();
    assert!(matches!(error, SlurmError::Refused { .. }));
    assert_eq!(error.to_string(), format!("Slurm refused: {}", words.trim()));
    let error = fakes.slurm().validate(Path::new("/j"), &[]).unwrap_err();
    assert!(error.to_string().contains("nosuch"));
    assert_eq!(fakes.arguments("sbatch"), "--test-only /j");
}

#[test]
fn a_failure_without_a_word_is_told_as_one() {
    let fakes = Fakes::new().writing("scancel", "", "", 3);
    let error = fakes.slurm().cancel(&id("5")).unwrap_err().to_string();
    assert_eq!(error, "scancel ended with exit status: 3 and without a word");
}

#[test]
fn the_first_line_with_a_number_is_the_job() {
    let fakes = Fakes::new().writing("sbatch", "Hello\n77;west\nYou have 12 jobs left\n3\n", "", 0);
    let submitted = fakes.slurm().submit(Path::new("/j"), &[]).unwrap();
    assert_eq!(submitted.job, id("77;west"));
}

#[test]
fn only_a_refusal_leaves_no_doubt() {
    let submit = |fakes: Fakes| {
        let slurm = fakes.slurm().with_timeout(Duration::from_millis(300));
        slurm.submit(Path::new("/j"), &[]).unwrap_err()
    };
    let with = |script: &str| submit(Fakes::new().with("sbatch", script));
    for script in [
        "exec sleep 100",
        "echo 'Submitted batch job'",
        "exit 1",
        "echo oops >&2; kill -9 $$",
        "echo 'Socket timed out on send/recv operation' >&2; exit 1",
    ] {
        let error = with(script);
        assert!(error.is_in_doubt(), "{script}: {error}");
    }
    for error in [with("echo 'invalid partition' >&2; exit 1"), submit(Fakes::new())] {
        assert!(!error.is_in_doubt(), "{error}");
    }
}

#[test]
fn what_is_no_number_is_not_taken_for_one() {
    let fakes = Fakes::new().writing("sbatch", "Submitted batch job\n", "", 0);
    let error = fakes.slurm().submit(Path::new("/j"), &[]).unwrap_err().to_string();
    assert_eq!(error, "sbatch wrote \"Submitted batch job\", which is not a job number");
}

#[test]
fn a_controller_that_does_not_answer_is_not_a_refusal() {
    let words = "sbatch: error: Batch job submission failed: Unable to contact slurm controller \
                 (connect failure)\n";
    let fakes = Fakes::new().writing("sbatch", "", words, 1);
    let error = fakes.slurm().submit(Path::new("/j"), &[]).unwrap_err();
    assert!(matches!(error, SlurmError::Unreachable { .. }), "{error}");
    let fakes = Fakes::new().writing(
        "sbatch",
        "",
        "sbatch: error: fetch_config: DNS SRV lookup failed\n\
         sbatch: fatal: Could not establish a configuration source\n",
        1,
    );
    let error = fakes.slurm().submit(Path::new("/j"), &[]).unwrap_err().to_string();
    assert_eq!(
        error,
        "Slurm does not answer here: sbatch says \"Could not establish a configuration source\"; is this \
         a machine of the cluster?"
    );
}

#[test]
fn a_missing_program_is_named() {
    let slurm = Fakes::new().slurm();
    assert!(!slurm.available());
    let error = slurm.version().unwrap_err().to_string();
    assert!(error.starts_with("sbatch was not found on PATH"), "{error}");
}

#[test]
fn a_program_that_hangs_is_given_up() {
    let fakes = Fakes::new().with("sinfo", "sleep 100");
    let slurm = fakes.slurm().with_timeout(Duration::from_millis(200));
    let error = slurm.partitions().unwrap_err();
    assert!(matches!(error, SlurmError::TimedOut { .. }), "{error}");
}

#[test]
fn the_version_is_the_last_word() {
    let fakes = Fakes::new().writing("sbatch", "slurm-wlm 22.05.8\n", "", 0);
    assert!(fakes.slurm().available());
    assert_eq!(fakes.slurm().version().unwrap(), "22.05.8");
}

#[test]
fn the_controller_is_asked_first() {
    let line = crate::recorded::job_line("running");
    let fakes = Fakes::new().writing("scontrol", line, "", 0);
    let info = fakes.slurm().show(&id("1;west")).unwrap();
    assert_eq!((info.job, info.state), (id("1;west"), JobState::Running));
    assert_eq!(fakes.arguments("scontrol"), "--clusters=west --oneliner show job 1");
}

#[test]
fn of_an_array_the_task_that_was_asked_for_is_taken() {
    let line = crate::recorded::job_line("array task");
    let other = line.replace("ArrayTaskId=3", "ArrayTaskId=1");
    let fakes = Fakes::new().writing("scontrol", &format!("{other}\n{line}\n"), "", 0);
    assert_eq!(fakes.slurm().show(&id("38_3")).unwrap().job, id("38_3"));
    assert_eq!(fakes.slurm().show(&id("38")).unwrap().job, id("38_1"));
}

#[test]
fn the_accounting_is_asked_when_the_controller_has_forgotten() {
    let fakes = Fakes::new().writing("scontrol", "", UNKNOWN, 1).writing("sacct", SACCT, "", 0);
    let info = fakes.slurm().show(&id("36")).unwrap();
    assert_eq!(
        (info.state, &info.steps_out_of_memory[..]),
        (JobState::Failed, &["36.0".to_owned()][..])
    );
    assert!(
        fakes.arguments("sacct").starts_with("--noheader --parsable2 --jobs=36 --format=JobID,")
    );
}

#[test]
fn a_job_that_nobody_knows_says_who_was_asked() {
    let error = |fakes: Fakes| {
        fakes.writing("scontrol", "", UNKNOWN, 1).slurm().show(&id("99")).unwrap_err().to_string()
    };
    let begin = "Slurm knows no job 99: the controller has forgotten it or never had it, and ";
    assert_eq!(
        error(Fakes::new().writing("sacct", "", DISABLED, 1)),
        format!("{begin}this cluster keeps no accounting")
    );
    assert_eq!(
        error(Fakes::new().writing("sacct", SACCT, "", 0)),
        format!("{begin}the accounting has no such job")
    );
    let down = "sacct: error: slurm_persist_conn_open_without_init: failed to open persistent \
                connection to host:db:6819: Connection refused\n";
    let unavailable = error(Fakes::new().writing("sacct", "", down, 1));
    assert!(unavailable.contains("the accounting could not be asked"), "{unavailable}");
}

#[test]
fn all_of_a_users_jobs_come_in_one_call() {
    let recorded = include_str!("../../tests/recorded/squeue.txt");
    let fakes = Fakes::new().writing("squeue", recorded, "", 0);
    let jobs = fakes.slurm().list("ada").unwrap();
    assert_eq!((jobs.jobs.len(), jobs.unread.len()), (recorded.lines().count(), 0));
    assert!(fakes.arguments("squeue").contains("--states=all --user=ada --format=%i|%T|"));
}

#[test]
fn a_line_that_cannot_be_read_hides_no_other() {
    let recorded = include_str!("../../tests/recorded/squeue.txt");
    let odd = format!("1*2|RUNNING|x\n{recorded}");
    let listed = Fakes::new().writing("squeue", &odd, "", 0).slurm().list("ada").unwrap();
    assert_eq!(
        (listed.jobs.len(), &*listed.unread[0]),
        (recorded.lines().count(), "1*2|RUNNING|x")
    );
}

#[test]
fn the_clusters_name_is_asked_for_once() {
    let fakes = Fakes::new().writing("scontrol", "ClusterName             = west\n", "", 0);
    let slurm = fakes.slurm();
    assert_eq!(slurm.cluster_name().unwrap(), "west");
    assert_eq!(fakes.arguments("scontrol"), "show config");
    fs::remove_file(fakes.0.path().join("scontrol")).unwrap();
    assert_eq!(slurm.clone().cluster_name().unwrap(), "west");
    let odd = Fakes::new().writing("scontrol", "nothing", "", 0).slurm().cluster_name();
    assert!(matches!(odd, Err(SlurmError::Unreadable { .. })));
}

#[test]
fn a_batch_script_is_signalled_and_jobs_are_cancelled_and_requeued() {
    let fakes = Fakes::new().writing("scancel", "", "", 0).writing("scontrol", "", "", 0);
    let slurm = fakes.slurm();
    slurm.signal(&id("5"), "TERM").unwrap();
    assert_eq!(fakes.arguments("scancel"), "--batch --signal=TERM 5");
    slurm.cancel(&id("5_1")).unwrap();
    assert_eq!(fakes.arguments("scancel"), "5_1");
    slurm.requeue(&id("5;west")).unwrap();
    assert_eq!(fakes.arguments("scontrol"), "--clusters=west requeue 5");
}

#[test]
fn partitions_and_plugins_are_read() {
    let fakes = Fakes::new()
        .writing("sinfo", include_str!("../../tests/recorded/sinfo.txt"), "", 0)
        .writing("srun", include_str!("../../tests/recorded/mpi-list.txt"), "", 0);
    let partitions = fakes.slurm().partitions().unwrap();
    assert_eq!(partitions.len(), 3);
    let plugins = fakes.slurm().mpi_plugins().unwrap();
    assert_eq!(plugins, ["pmix", "none", "cray_shasta", "pmi2", "pmix_v4"]);
    let older = "srun: MPI types are...\nsrun: none\nsrun: pmi2\nsrun: pmix_v3\n";
    let older = Fakes::new().writing("srun", "", older, 0);
    assert_eq!(older.slurm().mpi_plugins().unwrap(), ["none", "pmi2", "pmix_v3"]);
}

#[test]
fn times_are_asked_for_in_seconds_and_users_habits_left_out() {
    let fakes = Fakes::new().with(
        "srun",
        "echo \"t$SLURM_TIME_FORMAT$TZ\"; env | grep -c '^SQUEUE_' | sed 's/^/habits/'",
    );
    assert_eq!(fakes.slurm().mpi_plugins().unwrap(), ["t%sUTC", "habits0"]);
}
