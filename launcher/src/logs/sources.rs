//! Which files are the logs of a run.

use std::fs;
use std::path::{Path, PathBuf};

use shardrun_config::Deployment;
use shardrun_slurm::JobInfo;

use crate::programs;
use crate::run::Run;

/// A log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// In orchestrator mode.
    pub(crate) instance: Option<String>,
    pub(crate) rank: Option<u32>,
    pub(crate) host: Option<String>,
    pub(crate) path: PathBuf,
}

/// Which logs are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The job's, in which the supervisor's words are; of a run without one, those of what starts ranks.
    Output,
    /// Those of what starts ranks, which has the leader's words, too.
    Starters,
    /// Those of ranks, all if none is named.
    Ranks { ranks: Vec<u32>, instance: Option<String> },
}

impl Wanted {
    /// The logs of all ranks.
    pub(crate) fn all() -> Self {
        Self::Ranks { ranks: Vec::new(), instance: None }
    }
}

impl Source {
    fn plain(path: PathBuf) -> Self {
        Self { instance: None, rank: None, host: None, path }
    }

    /// `n1 0`; `n1 llama.0 0` where there are instances.
    pub(crate) fn name(&self) -> String {
        let rank = self.rank.map(|rank| rank.to_string());
        let parts = [&self.host, &self.instance, &rank];
        parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// The logs that there are now, in the order in which they are shown.
pub(crate) fn sources(
    run: &Run,
    deployment: &Deployment,
    info: Option<&JobInfo>,
    wanted: &Wanted,
) -> Vec<Source> {
    match wanted {
        Wanted::Output => {
            let outputs = outputs(run, deployment, info);
            if outputs.is_empty() { starters(&run.dir) } else { outputs }
        }
        Wanted::Starters => starters(&run.dir),
        Wanted::Ranks { ranks, instance } => {
            let logs = deployment.run.log_dir.clone().unwrap_or_else(|| run.dir.join("logs"));
            let mut found = of_ranks(&logs, None);
            for (name, path) in files(&logs).into_iter().filter(|(_, path)| path.is_dir()) {
                found.extend(of_ranks(&path, Some(&name)));
            }
            found.retain(|source| {
                (ranks.is_empty() || source.rank.is_some_and(|rank| ranks.contains(&rank)))
                    && (instance.is_none()
                        || source.instance == *instance
                        || is_only(deployment, instance))
            });
            found.sort();
            found
        }
    }
}

/// In leader mode the only instance needs no folder.
fn is_only(deployment: &Deployment, instance: &Option<String>) -> bool {
    let only = deployment.instances().count() == 1;
    only && instance.as_deref() == Some(&deployment.instance_name(0))
}

/// The output of its jobs: a successor has one of its own.
fn outputs(run: &Run, deployment: &Deployment, info: Option<&JobInfo>) -> Vec<Source> {
    if !run.is_submitted() {
        return Vec::new();
    }
    let Some(pattern) = &deployment.slurm.output else {
        let number = |name: &str| {
            let number = name.strip_prefix("job-")?.strip_suffix(".out")?;
            number.parse::<u64>().ok()
        };
        let mut jobs: Vec<_> = files(&run.dir)
            .into_iter()
            .filter_map(|(name, path)| Some((number(&name)?, path)))
            .collect();
        jobs.sort();
        return jobs.into_iter().map(|(_, path)| Source::plain(path)).collect();
    };
    let told = info.and_then(|info| info.stdout.clone()).map(PathBuf::from);
    let job = run.job().map_or(String::new(), |job| job.number().to_string());
    let expanded = pattern.replace("%j", &job).replace("%x", &deployment.name);
    let path = told.unwrap_or_else(|| PathBuf::from(expanded));
    if path.is_file() { vec![Source::plain(path)] } else { Vec::new() }
}

fn starters(dir: &Path) -> Vec<Source> {
    let of_starter = |name: &str| {
        let names = [programs::MPIRUN, programs::SRUN, programs::SPAWN];
        name.ends_with(".log")
            && names.iter().any(|starter| name.starts_with(&format!("{starter}.")))
    };
    let logs = files(dir).into_iter().filter(|(name, _)| of_starter(name));
    logs.map(|(_, path)| Source::plain(path)).collect()
}

/// `rankN.HOST.log` in a folder.
fn of_ranks(folder: &Path, instance: Option<&str>) -> Vec<Source> {
    let source = |(name, path): (String, PathBuf)| {
        let (rank, host) = name.strip_prefix("rank")?.strip_suffix(".log")?.split_once('.')?;
        Some(Source {
            instance: instance.map(str::to_owned),
            rank: Some(rank.parse().ok()?),
            host: Some(host.to_owned()),
            path,
        })
    };
    files(folder).into_iter().filter_map(source).collect()
}

/// What a folder has, by name; nothing, if it isn't there.
fn files(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named =
        entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())));
    let mut files: Vec<_> = named.collect();
    files.sort();
    files
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::job::SCRIPT;
    use crate::run::RunRecord;

    fn run(folder: &Path, files: &[&str]) -> (Run, Deployment) {
        for file in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let record = RunRecord {
            id: "i".into(),
            name: "d".into(),
            uid: 1,
            created: 1,
            shm_prefix: String::new(),
            job: Some("9".into()),
            sbatch_args: Vec::new(),
            successors: 0,
            cluster: None,
        };
        let text = "name = \"d\"\nmodel.source = \"/m\"\nrun.dir = \"/r\"\n";
        let deployment = Deployment::from_resolved_toml(text).unwrap();
        (Run { dir: folder.to_owned(), owner: 1, record }, deployment)
    }

    fn names(folder: &Path, run: &(Run, Deployment), wanted: &Wanted) -> Vec<String> {
        let found = sources(&run.0, &run.1, None, wanted);
        let name = |source: &Source| {
            let path = source.path.strip_prefix(folder).unwrap_or(&source.path);
            format!("{}|{}", path.display(), source.name())
        };
        found.iter().map(name).collect()
    }

    #[test]
    fn a_jobs_output_is_before_that_of_starters() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let files = ["mpirun.d.0.log", "job-9.out", "job-10.out", "deployment.toml"];
        let run = run(folder, &files);
        assert_eq!(names(folder, &run, &Wanted::Output), ["mpirun.d.0.log|"]);
        fs::write(folder.join(SCRIPT), "").unwrap();
        assert_eq!(names(folder, &run, &Wanted::Output), ["job-9.out|", "job-10.out|"]);
        assert_eq!(names(folder, &run, &Wanted::Starters), ["mpirun.d.0.log|"]);

        let (run, mut deployment) = run;
        deployment.slurm.output = Some(folder.join("%x-%j.txt").display().to_string());
        fs::write(folder.join("d-9.txt"), "").unwrap();
        assert_eq!(names(folder, &(run, deployment), &Wanted::Output), ["d-9.txt|"]);
    }

    #[test]
    fn ranks_are_found_in_both_modes() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let run = run(folder, &["logs/rank0.n1.log", "logs/rank10.n2.log", "logs/rank2.n1.a.log"]);
        let ranks = |ranks: &[u32], instance: Option<&str>| Wanted::Ranks {
            ranks: ranks.to_vec(),
            instance: instance.map(Into::into),
        };
        let all =
            ["logs/rank0.n1.log|n1 0", "logs/rank2.n1.a.log|n1.a 2", "logs/rank10.n2.log|n2 10"];
        assert_eq!(names(folder, &run, &Wanted::all()), all);
        assert_eq!(names(folder, &run, &ranks(&[], Some("d.0"))), all);
        assert_eq!(names(folder, &run, &ranks(&[10], None)), all[2..]);
        assert!(names(folder, &run, &ranks(&[1], None)).is_empty());

        fs::create_dir_all(folder.join("logs/b.1")).unwrap();
        fs::write(folder.join("logs/b.1/rank0.n3.log"), "").unwrap();
        assert_eq!(
            names(folder, &run, &ranks(&[], Some("b.1"))),
            ["logs/b.1/rank0.n3.log|n3 b.1 0"]
        );
        assert!(names(folder, &run, &ranks(&[], Some("c.0"))).is_empty());
    }
}
