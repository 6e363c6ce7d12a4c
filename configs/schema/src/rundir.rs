//! The directory of one run.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::{ConfigError, ConfigErrors, Deployment, ModelSource, RunId};

/// A run's directory, `<run.dir>/<name>-<run id>`: mode 0700, with the resolved deployment and,
/// unless the deployment says otherwise, the logs in it.
#[derive(Debug)]
pub struct RunDir {
    /// The run's id.
    pub id: RunId,
    /// The directory.
    pub path: PathBuf,
    /// The resolved deployment, `deployment.toml` in the directory.
    pub config: PathBuf,
    /// The deployment as it is in that file: the models' local files, the folder of logs and the
    /// prefix of shared memory are settled.
    pub deployment: Deployment,
}

/// Why no run directory could be made.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// A folder could not be made.
    #[error("cannot make the run directory {}: {source}; `run.dir` chooses another place", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The deployment could not be written.
    #[error("cannot write {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The directory is no run's.
    #[error("{} is no run's directory: {source}", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
        /// Why its deployment can't be read.
        source: std::io::Error,
    },
    /// The run's deployment is not what was written there.
    #[error("{} is not as it was written: {errors}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        errors: ConfigErrors,
    },
    /// The directory was renamed.
    #[error("{} is not called NAME-RUN_ID, as a run's directory is", path.display())]
    Misnamed {
        /// The directory.
        path: PathBuf,
    },
    /// The deployment has no form in TOML.
    #[error(transparent)]
    Unwritable(#[from] ConfigError),
}

impl RunDir {
    /// Makes the directory of a new run of the user `uid`. `files` are the models' local files, in the
    /// order of models.
    ///
    /// # Errors
    /// [`RunDirError`] if a folder or the file can't be written.
    pub fn create(
        deployment: &Deployment,
        files: &[PathBuf],
        uid: u32,
    ) -> Result<Self, RunDirError> {
        folder(&deployment.run.dir)?;
        let (id, path) = claim(deployment)?;
        let mut resolved = deployment.clone();
        for (model, file) in resolved.models.iter_mut().zip(files) {
            model.source = ModelSource::Path(file.clone());
        }
        let log_dir = resolved.run.log_dir.get_or_insert_with(|| path.join("logs"));
        folder(log_dir)?;
        resolved.run.shm_prefix.get_or_insert_with(|| id.shm_prefix(uid));
        let config = path.join("deployment.toml");
        let text = resolved.to_toml()?;
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&config)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| RunDirError::File { path: config.clone(), source })?;
        Ok(Self { id, path, config, deployment: resolved })
    }

    /// The directory of a run that was made before, by `shardrun submit` for one.
    ///
    /// # Errors
    /// [`RunDirError`] if there is no deployment in it, or not a whole one.
    pub fn open(path: &Path) -> Result<Self, RunDirError> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let config = path.join("deployment.toml");
        let text = std::fs::read_to_string(&config)
            .map_err(|source| RunDirError::NoRun { path: path.clone(), source })?;
        let deployment = Deployment::from_resolved_toml(&text)
            .map_err(|errors| RunDirError::Broken { path: config.clone(), errors })?;
        let name = path.file_name().and_then(|name| name.to_str());
        let id = name.and_then(|name| name.strip_prefix(&deployment.name)?.strip_prefix('-'));
        let id = id.and_then(|id| id.parse().ok());
        let id = id.ok_or_else(|| RunDirError::Misnamed { path: path.clone() })?;
        Ok(Self { id, path, config, deployment })
    }

    /// Where the layout of a deployment's ranks is: beside its file in the run's directory.
    #[must_use]
    pub fn layout_of(config: &Path) -> PathBuf {
        config.with_extension("layout.json")
    }

    /// Where the run's secret is: in its directory, as is the deployment's file.
    #[must_use]
    pub fn secret_of(config: &Path) -> PathBuf {
        config.with_file_name("secret")
    }

    /// The directory that the run `id` has; `id` is a [`RunId`], or a word for one in messages.
    #[must_use]
    pub fn path_of(deployment: &Deployment, id: impl std::fmt::Display) -> PathBuf {
        deployment.run.dir.join(format!("{}-{id}", deployment.name))
    }
}

/// Makes a directory that nobody else has. Two runs that begin in one second differ in their four
/// random digits almost always; where they don't, the later one draws again.
fn claim(deployment: &Deployment) -> Result<(RunId, PathBuf), RunDirError> {
    const DRAWS: usize = 16;
    let mut draw = 1;
    loop {
        let id = RunId::now();
        let path = RunDir::path_of(deployment, id);
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok((id, path)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && draw < DRAWS => draw += 1,
            Err(source) => return Err(RunDirError::Folder { path, source }),
        }
    }
}

fn folder(path: &Path) -> Result<(), RunDirError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| RunDirError::Folder { path: path.to_owned(), source })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn deployment(dir: &Path, more: &str) -> Deployment {
        let text = format!(
            "name = \"demo\"\n[model]\nsource = \"/m.gguf\"\n[run]\ndir = \"{}\"\n{more}",
            dir.display()
        );
        Deployment::from_resolved_toml(&text).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_run_has_a_private_directory_with_its_deployment() {
        let temp = tempfile::tempdir().unwrap();
        let base = temp.path().join("state/shardrun");
        let wanted = deployment(&base, "");
        let run = RunDir::create(&wanted, &["/cache/m.gguf".into()], 7).unwrap();
        assert_eq!(run.path, base.join(format!("demo-{}", run.id)));
        assert_eq!((mode(&base), mode(&run.path), mode(&run.config)), (0o700, 0o700, 0o600));
        assert!(run.path.join("logs").is_dir());

        let read = std::fs::read_to_string(&run.config).unwrap();
        assert_eq!(Deployment::from_resolved_toml(&read).unwrap(), run.deployment);
        let mut expected = wanted;
        expected.models[0].source = ModelSource::Path("/cache/m.gguf".into());
        expected.run.log_dir = Some(run.path.join("logs"));
        expected.run.shm_prefix = Some(run.id.shm_prefix(7));
        assert_eq!(run.deployment, expected);
    }

    #[test]
    fn what_the_deployment_names_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let logs = temp.path().join("my/logs");
        let more = format!("log_dir = \"{}\"\nshm_prefix = \"mine_\"", logs.display());
        let run = RunDir::create(&deployment(temp.path(), &more), &["/m".into()], 7).unwrap();
        assert_eq!(run.deployment.run.log_dir.as_deref(), Some(logs.as_path()));
        assert_eq!(run.deployment.run.shm_prefix.unwrap().as_str(), "mine_");
        assert!(logs.is_dir() && !run.path.join("logs").exists());
    }

    #[test]
    fn a_folder_that_cannot_be_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("file");
        std::fs::write(&file, "").unwrap();
        let error = RunDir::create(&deployment(&file, ""), &["/m".into()], 7).unwrap_err();
        assert!(error.to_string().contains(&*file.to_string_lossy()), "{error}");
    }
}
