//! Which run a word means.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User, getuid};
use shardrun_config::usual_run_dir;
use shardrun_slurm::{JobId, Slurm};

use super::{JobSays, RunRecord};

/// A run that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// Whose directory it is.
    pub(crate) owner: u32,
    pub(crate) record: RunRecord,
}

/// Why no run is meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FindError {
    #[error("you have no runs in {}; --dir names another folder (run.dir)", folder.display())]
    NoRuns { folder: PathBuf },
    #[error(
        "no run of yours in {} has the name, id or job {word:?}; `shardrun list` shows them, and --dir \
         names another folder (run.dir)",
        folder.display()
    )]
    Unknown { word: String, folder: PathBuf },
    #[error("{} is no run's directory: {}; `shardrun list` shows your runs", path.display(), match path.exists() {
        true => "it has no run.json",
        false => "there is nothing of that name",
    })]
    NotARun { path: PathBuf },
    #[error("{} is a directory of {owner}, who alone may look into it", path.display())]
    Closed { path: PathBuf, owner: String },
    #[error("{} is a run of {owner}; only they can do that", path.display())]
    OfAnother { path: PathBuf, owner: String },
}

impl Run {
    /// The run in this directory; `None` if there is none.
    pub(crate) fn open(dir: &Path) -> anyhow::Result<Option<Self>> {
        let dir = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
        let Some(record) = RunRecord::read(&dir)? else { return Ok(None) };
        Ok(Some(Self { owner: super::owner(&dir)?, dir, record }))
    }

    /// Whether it is this user's, by the file system's word and its own.
    pub(crate) fn is_own(&self) -> bool {
        let uid = getuid().as_raw();
        self.owner == uid && self.record.uid == uid
    }

    /// What it is called in messages: the name of its directory.
    pub(crate) fn label(&self) -> String {
        format!("{}-{}", self.record.name, self.record.id)
    }

    /// The job that it was submitted as, or started in.
    pub(crate) fn job(&self) -> Option<JobId> {
        self.record.job.as_deref()?.parse().ok()
    }

    /// Whether Slurm runs it as a batch job of its own, so that the end of the job is its end.
    pub(crate) fn is_submitted(&self) -> bool {
        self.record.job.is_some() && self.dir.join(crate::job::SCRIPT).exists()
    }

    /// # Errors
    /// If it is somebody else's.
    pub(crate) fn check_own(&self) -> Result<(), FindError> {
        if self.is_own() {
            return Ok(());
        }
        let other = [self.owner, self.record.uid].into_iter().find(|&uid| uid != getuid().as_raw());
        let owner = user_name(other.unwrap_or(self.owner));
        Err(FindError::OfAnother { path: self.dir.clone(), owner })
    }
}

/// The runs of this user in a folder.
#[derive(Clone, Debug)]
pub(crate) struct Runs {
    folder: PathBuf,
    usual: bool,
}

impl Runs {
    /// Those in `dir`, or in the folder that is usual where no deployment file is read.
    pub(crate) fn of(dir: Option<&Path>) -> anyhow::Result<Self> {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        let (folder, usual) = match dir {
            Some(dir) => (std::path::absolute(dir)?, false),
            None => (usual_run_dir(env)?, true),
        };
        Ok(Self { folder, usual })
    }

    /// The folder that they are in.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Whether a run in `folder` is found without saying where runs are.
    pub(crate) fn finds_in(folder: &Path) -> bool {
        Self::of(None).is_ok_and(|runs| runs.folder == folder)
    }

    /// All of them, the newest first; directories that are no runs of this user are passed over.
    pub(crate) fn all(&self) -> anyhow::Result<Vec<Run>> {
        let entries = match self.folder.read_dir() {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound && self.usual => {
                return Ok(Vec::new());
            }
            Err(error) => {
                return Err(anyhow::Error::new(error).context(format!(
                    "cannot list the runs in {}; --dir names the folder that they are in (run.dir)",
                    self.folder.display()
                )));
            }
        };
        let runs = entries.filter_map(|entry| Run::open(&entry.ok()?.path()).ok().flatten());
        let mut runs: Vec<_> = runs.filter(Run::is_own).collect();
        runs.sort_by(|a, b| (b.record.created, &b.dir).cmp(&(a.record.created, &a.dir)));
        Ok(runs)
    }

    /// The run that a word means: a directory, a run's id, a deployment's name, a job; the newest for
    /// `last` and for none.
    pub(crate) fn find(&self, word: Option<&str>, slurm: &Slurm) -> anyhow::Result<Run> {
        if let Some(word) = word.filter(|word| word.contains('/')) {
            return directory(Path::new(word));
        }
        let runs = self.all()?;
        let meant = match word {
            None | Some("last") => runs.first(),
            Some(word) => pick(&runs, word, slurm),
        };
        let folder = || self.folder.clone();
        match (meant, word) {
            (Some(run), _) => Ok(run.clone()),
            (None, None | Some("last")) => Err(FindError::NoRuns { folder: folder() }.into()),
            (None, Some(word)) => by_output(word, slurm).ok_or_else(|| {
                FindError::Unknown { word: word.to_owned(), folder: folder() }.into()
            }),
        }
    }
}

fn directory(path: &Path) -> anyhow::Result<Run> {
    let closed = |path: &Path| {
        let owner = path.metadata().ok().map(|meta| meta.uid());
        let owner = owner.filter(|&uid| uid != getuid().as_raw()).map(user_name);
        owner.map(|owner| FindError::Closed { path: path.to_owned(), owner })
    };
    match Run::open(path) {
        Ok(Some(run)) => Ok(run),
        Ok(None) => Err(FindError::NotARun { path: path.to_owned() }.into()),
        Err(error) => Err(closed(path).map_or(error, Into::into)),
    }
}

/// Of runs in the order of their age, the newest that `word` means; by the number of a job, one of this
/// cluster's rather than another's.
fn pick<'a>(runs: &'a [Run], word: &str, slurm: &Slurm) -> Option<&'a Run> {
    let job = word.parse::<JobId>().ok().map(bare);
    let of_job = || runs.iter().filter(|run| job.is_some() && run.job().map(bare) == job);
    let here = |run: &&Run| !matches!(JobSays::of(run, slurm), JobSays::Elsewhere { .. });
    let by_job = match of_job().count() {
        0 | 1 => of_job().next(),
        _ => of_job().find(here).or_else(|| of_job().next()),
    };
    let by_id = |run: &&Run| run.record.id == word || run.label() == word;
    let by_name = |run: &&Run| run.record.name == word;
    by_job.or_else(|| runs.iter().find(by_id)).or_else(|| runs.iter().find(by_name))
}

/// People leave the cluster out.
fn bare(job: JobId) -> (u32, Option<u32>) {
    (job.number(), job.array_task())
}

/// The run of a job whose output goes into its run's directory, wherever that is.
fn by_output(word: &str, slurm: &Slurm) -> Option<Run> {
    let output = slurm.show(&word.parse().ok()?).ok()?.stdout?;
    let run = Run::open(Path::new(&output).parent()?).ok()??;
    Some(run).filter(Run::is_own)
}

/// A user's name, or number.
pub(crate) fn user_name(uid: u32) -> String {
    let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    user.map_or_else(|| format!("the user with id {uid}"), |user| format!("the user {}", user.name))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn run(folder: &Path, name: &str, id: &str, created: u64, job: Option<&str>) -> Run {
        let dir = folder.join(format!("{name}-{id}"));
        std::fs::create_dir(&dir).unwrap();
        let record = RunRecord {
            id: id.into(),
            name: name.into(),
            uid: getuid().as_raw(),
            created,
            shm_prefix: String::new(),
            job: job.map(Into::into),
            sbatch_args: Vec::new(),
            successors: 0,
            cluster: None,
        };
        record.write(&dir).unwrap();
        Run { dir, owner: record.uid, record }
    }

    fn no_slurm() -> Slurm {
        Slurm::new().with_programs_in("/nonexistent")
    }

    #[test]
    fn a_run_goes_by_many_names() {
        let folder = tempfile::tempdir().unwrap();
        let old = run(folder.path(), "a", "20260101-000000-0001", 1, Some("12"));
        let task = run(folder.path(), "b", "20260101-000001-0001", 2, Some("13_4;west"));
        let new = run(folder.path(), "a", "20260101-000002-0001", 3, None);
        std::fs::create_dir(folder.path().join("nothing")).unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let runs = Runs::of(Some(folder.path())).unwrap();
        assert_eq!(runs.all().unwrap(), [new.clone(), task.clone(), old.clone()]);

        let find = |word: &str| runs.find(Some(word), &no_slurm()).unwrap();
        assert_eq!(runs.find(None, &no_slurm()).unwrap(), new);
        assert_eq!((find("last"), find("a"), find("b")), (new.clone(), new, task.clone()));
        assert_eq!((find("12"), find("20260101-000000-0001")), (old.clone(), old.clone()));
        assert_eq!((find("13_4"), find("a-20260101-000000-0001")), (task, old.clone()));
        assert_eq!(find(&old.dir.display().to_string()), old);
    }

    #[test]
    fn what_is_no_run_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        let runs = Runs::of(Some(folder.path())).unwrap();
        let error = |word: Option<&str>| runs.find(word, &no_slurm()).unwrap_err().to_string();
        assert_eq!(
            error(None),
            format!("you have no runs in {at}; --dir names another folder (run.dir)")
        );
        run(folder.path(), "a", "20260101-000000-0001", 1, None);
        assert!(error(Some("7")).contains("has the name, id or job \"7\""));
        let next = "; `shardrun list` shows your runs";
        assert_eq!(
            error(Some(&at)),
            format!("{at} is no run's directory: it has no run.json{next}")
        );
        let missing = format!("{at}/x");
        assert_eq!(
            error(Some(&missing)),
            format!("{missing} is no run's directory: there is nothing of that name{next}")
        );
        let missing = Runs::of(Some(&folder.path().join("x"))).unwrap();
        assert!(
            missing
                .find(None, &no_slurm())
                .unwrap_err()
                .to_string()
                .contains("cannot list the runs in")
        );
    }

    #[test]
    fn a_run_that_somebody_else_planted_is_not_yours() {
        if !getuid().is_root() {
            println!("skipped: only root can give files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let mine = run(folder.path(), "a", "20260101-000000-0001", 1, Some("12"));
        // Its files say that it is this user's, the newest, and of a job of theirs.
        let planted = run(folder.path(), "a", "20990101-000000-0001", u64::MAX, Some("12"));
        let give = |path: &Path| nix::unistd::chown(path, Some(4_000_001.into()), None).unwrap();
        give(&planted.dir);
        give(&planted.dir.join("run.json"));
        let runs = Runs::of(Some(folder.path())).unwrap();
        for word in [None, Some("last"), Some("a"), Some("12")] {
            assert_eq!(runs.find(word, &no_slurm()).unwrap(), mine, "{word:?}");
        }
        // By its path it can be looked at, and nothing more.
        let word = planted.dir.display().to_string();
        let seen = runs.find(Some(&word), &no_slurm()).unwrap();
        let error = seen.check_own().unwrap_err().to_string();
        assert!(error.ends_with("is a run of the user with id 4000001; only they can do that"));
        // Nor are files that were put into a directory of theirs.
        nix::unistd::chown(&planted.dir, Some(getuid()), None).unwrap();
        assert!(runs.find(Some(&word), &no_slurm()).is_err());
        assert_eq!(runs.all().unwrap(), [mine]);
    }

    #[test]
    fn links_to_runs_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mine = run(folder.path(), "a", "20260101-000000-0001", 1, None);
        std::os::unix::fs::symlink(&mine.dir, folder.path().join("a-20990101-000000-0001"))
            .unwrap();
        let runs = Runs::of(Some(folder.path())).unwrap();
        assert_eq!(runs.all().unwrap(), [mine]);
        let link = folder.path().join("a-20990101-000000-0001").display().to_string();
        let error = format!("{:#}", runs.find(Some(&link), &no_slurm()).unwrap_err());
        assert!(error.contains("is a symbolic link"), "{error}");
    }

    #[test]
    fn runs_of_others_are_not_yours() {
        let folder = tempfile::tempdir().unwrap();
        let mut theirs = run(folder.path(), "a", "20260101-000000-0001", 1, None);
        theirs.record.uid += 4_000_000;
        theirs.record.write(&theirs.dir).unwrap();
        let runs = Runs::of(Some(folder.path())).unwrap();
        assert_eq!(runs.all().unwrap(), []);
        let error = theirs.check_own().unwrap_err().to_string();
        assert!(error.contains("is a run of the user with id "), "{error}");
    }
}
