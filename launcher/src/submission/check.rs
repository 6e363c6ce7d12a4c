//! What could only fail once a job has waited for its turn.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use shardrun_config::{Deployment, RunDir, RunId};
use shardrun_slurm::TimeLimit;

use super::Demand;
use crate::starter::{self, Kind};

/// Seconds that a job should serve before it drains, at least.
const SERVING_S: u64 = 60;
/// Bytes that a socket's path may have: one less than sun_path in unix(7), for the zero after it.
const LONGEST_SOCKET: usize = 107;
/// The socket in a run's directory with the longest name.
const SOCKET: &str = "lifeline";

/// Checks what a job would need on its nodes; `worker` is the program of its ranks.
///
/// # Errors
/// Names the key, its value and what is possible.
pub(crate) fn check(deployment: &Deployment, demand: &Demand, worker: &Path) -> anyhow::Result<()> {
    check_time(deployment, demand)?;
    check_sockets(deployment)?;
    check_container(deployment, worker)
}

fn check_time(deployment: &Deployment, demand: &Demand) -> anyhow::Result<()> {
    let drain_s = u64::from(deployment.slurm.drain_before_s);
    let least = Duration::from_secs(drain_s + SERVING_S);
    // Slurm takes 0 for no limit.
    let limited = demand.time().filter(|(time, _)| time.duration().is_some_and(|d| !d.is_zero()));
    match limited {
        Some((time, by)) if time <= TimeLimit::Limited(least) => bail!(
            "{by} is {time} and slurm.drain_before_s is {drain_s}: a job that drains {drain_s} s before its \
             end needs more than {}",
            TimeLimit::Limited(least)
        ),
        _ => Ok(()),
    }
}

fn check_sockets(deployment: &Deployment) -> anyhow::Result<()> {
    let path = RunDir::path_of(deployment, RunId::now()).join(SOCKET);
    let bytes = path.as_os_str().len();
    match bytes.checked_sub(LONGEST_SOCKET) {
        Some(over @ 1..) => bail!(
            "run.dir is {:?}: a socket of the run, {}, has a path of {bytes} bytes, and the kernel takes \
             {LONGEST_SOCKET}; a run.dir that is {over} bytes shorter will do",
            deployment.run.dir,
            path.display()
        ),
        _ => Ok(()),
    }
}

fn check_container(deployment: &Deployment, worker: &Path) -> anyhow::Result<()> {
    let kind = starter::kind(deployment, true);
    if deployment.slurm.container.is_some() && kind != Kind::Srun {
        bail!(
            "slurm.container is for ranks that srun starts, and launch.starter and launch.spawner say that \
             {} does",
            kind.program()
        );
    }
    let run = RunDir::path_of(deployment, RunId::now());
    starter::check_container(deployment, &run, worker)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::Told;
    use super::*;

    fn checked(more: &str, options: &[&str]) -> Result<(), String> {
        let text = format!("name = \"d\"\nmodel.source = \"/m/a.gguf\"\n{more}");
        let text =
            if more.contains("run.dir") { text } else { format!("{text}\nrun.dir = \"/r\"") };
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let told = Told::new(&deployment, &options, |_| None);
        let demand = Demand::of(&deployment, &told).unwrap();
        let worker = Path::new("/opt/shardrun/shardrun-worker");
        check(&deployment, &demand, worker).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_job_must_be_longer_than_its_drain() {
        assert_eq!(
            checked("slurm.time = \"3\"", &[]).unwrap_err(),
            "slurm.time is 00:03:00 and slurm.drain_before_s is 120: a job that drains 120 s before its end \
             needs more than 00:03:00"
        );
        for more in ["", "slurm.time = \"4\"", "slurm.time = \"0\"", "slurm.time = \"UNLIMITED\""] {
            assert_eq!(checked(more, &[]), Ok(()), "{more}");
        }
        assert_eq!(checked("slurm.time = \"3\"", &["--time=4"]), Ok(()));
        let error = checked("slurm.time = \"1:00:00\"", &["-t", "2"]).unwrap_err();
        assert!(error.starts_with("--time is 00:02:00"), "{error}");
    }

    #[test]
    fn a_sockets_path_must_fit() {
        // The directory has a slash, a name, a dash and 20 characters; the socket a slash and 8.
        let dir = |bytes: usize| format!("run.dir = \"/{}\"", "r".repeat(bytes - 1));
        assert_eq!(checked(&dir(107 - 32), &[]), Ok(()));
        let error = checked(&dir(107 - 31), &[]).unwrap_err();
        assert!(error.contains("has a path of 108 bytes, and the kernel takes 107"), "{error}");
        assert!(error.ends_with("a run.dir that is 1 bytes shorter will do"), "{error}");
    }

    #[test]
    fn a_container_must_be_one_that_can_be_written() {
        let container = |more: &str| checked(&format!("slurm.container = \"i.sqsh\"\n{more}"), &[]);
        assert_eq!(container("slurm.container_mounts = [\"/a:/b:ro\"]"), Ok(()));
        for (mounts, expected) in [
            ("/a", "slurm.container_mounts has \"/a\": expected FROM:TO or FROM:TO:ro"),
            ("/a,b:/c", "container.mounts is \"/a,b\""),
            ("a:/c", "container.mounts is \"a\""),
        ] {
            let error = container(&format!("slurm.container_mounts = [\"{mounts}\"]")).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            container("launch.starter = \"mpirun\"").unwrap_err().contains("say that mpirun does")
        );
    }
}
