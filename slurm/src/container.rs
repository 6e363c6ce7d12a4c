//! Running the ranks of a step in a container.

use crate::SlurmError;
use crate::script::{bad, check};

/// What runs containers on the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// srun itself, by NVIDIA's plugin pyxis, with enroot.
    Pyxis,
    /// `apptainer exec`.
    Apptainer,
}

/// A folder or file of the host within a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Where it is on the host.
    pub source: String,
    /// Where it is in the container.
    pub target: String,
    /// Whether nothing may be written there.
    pub read_only: bool,
}

/// A container that ranks run in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// What runs it.
    pub runtime: Runtime,
    /// A file, or a name such as `docker://repo/image:tag` or, with pyxis, `repo/image:tag`.
    pub image: String,
    /// The host's folders that it sees beyond those that the site mounts.
    pub mounts: Vec<Mount>,
    /// Where the command starts.
    pub workdir: Option<String>,
    /// Whether apptainer is to bring in NVIDIA's driver, `--nv`; enroot does it by itself.
    pub nvidia: bool,
}

const PATH: &str = "absolute paths without commas, colons and control characters";

impl Container {
    /// Whether it can be written as options and arguments.
    ///
    /// # Errors
    ///
    /// [`SlurmError::BadValue`] with the field.
    pub fn check(&self) -> Result<(), SlurmError> {
        self.srun_options()?;
        self.wrap(&[]).map(drop)
    }

    /// Options of srun that start the container.
    pub(crate) fn srun_options(&self) -> Result<Vec<String>, SlurmError> {
        if self.runtime != Runtime::Pyxis {
            return Ok(Vec::new());
        }
        let mut options = vec![format!("--container-image={}", self.image()?)];
        if !self.mounts.is_empty() {
            let mounts = self.mounts.iter().map(Mount::text).collect::<Result<Vec<_>, _>>()?;
            options.push(format!("--container-mounts={}", mounts.join(",")));
        }
        if let Some(workdir) = &self.workdir {
            options.push(format!("--container-workdir={}", path("container.workdir", workdir)?));
        }
        Ok(options)
    }

    /// The command as srun starts it.
    pub(crate) fn wrap(&self, command: &[String]) -> Result<Vec<String>, SlurmError> {
        if self.runtime == Runtime::Pyxis {
            return Ok(command.to_vec());
        }
        let mut argv = vec!["apptainer".to_owned(), "exec".to_owned()];
        argv.extend(self.nvidia.then(|| "--nv".to_owned()));
        for mount in &self.mounts {
            argv.extend(["--bind".to_owned(), mount.text()?]);
        }
        if let Some(workdir) = &self.workdir {
            let workdir = path("container.workdir", workdir)?.to_owned();
            argv.extend(["--pwd".to_owned(), workdir]);
        }
        argv.push(self.image()?.to_owned());
        argv.extend_from_slice(command);
        Ok(argv)
    }

    fn image(&self) -> Result<&str, SlurmError> {
        let image = check("container.image", &self.image)?;
        match image.starts_with('-') {
            true => Err(bad("container.image", image, "a file or a name of an image")),
            false => Ok(image),
        }
    }
}

impl Mount {
    /// `source:target[:ro]`, as both families write it.
    fn text(&self) -> Result<String, SlurmError> {
        let source = path("container.mounts", &self.source)?;
        let target = path("container.mounts", &self.target)?;
        let mode = if self.read_only { ":ro" } else { "" };
        Ok(format!("{source}:{target}{mode}"))
    }
}

fn path<'a>(field: &str, text: &'a str) -> Result<&'a str, SlurmError> {
    let odd = |c: char| c == ',' || c == ':' || c.is_control();
    match text.starts_with('/') && !text.contains(odd) {
        true => Ok(text),
        false => Err(bad(field, text, PATH)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn container(runtime: Runtime) -> Container {
        let mount = |source: &str, target: &str, read_only| Mount {
            source: source.into(),
            target: target.into(),
            read_only,
        };
        Container {
            runtime,
            image: "/images/shardrun.sqsh".into(),
            mounts: vec![mount("/models", "/models", true), mount("/scratch/ada", "/run", false)],
            workdir: Some("/run".into()),
            nvidia: true,
        }
    }

    #[test]
    fn pyxis_is_options_of_srun() {
        let container = container(Runtime::Pyxis);
        assert_eq!(
            container.srun_options().unwrap(),
            [
                "--container-image=/images/shardrun.sqsh",
                "--container-mounts=/models:/models:ro,/scratch/ada:/run",
                "--container-workdir=/run",
            ]
        );
        assert_eq!(container.wrap(&["worker".into()]).unwrap(), ["worker"]);
    }

    #[test]
    fn apptainer_is_a_command_before_the_command() {
        let container = container(Runtime::Apptainer);
        assert!(container.srun_options().unwrap().is_empty());
        let argv = container.wrap(&["worker".into(), "--config".into()]).unwrap().join(" ");
        assert_eq!(
            argv,
            "apptainer exec --nv --bind /models:/models:ro --bind /scratch/ada:/run --pwd /run \
             /images/shardrun.sqsh worker --config"
        );
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let refused = |change: fn(&mut Container)| {
            let mut pyxis = container(Runtime::Pyxis);
            let mut apptainer = container(Runtime::Apptainer);
            change(&mut pyxis);
            change(&mut apptainer);
            let error = pyxis.srun_options().unwrap_err().to_string();
            assert_eq!(apptainer.check().unwrap_err().to_string(), error);
            error
        };
        assert_eq!(
            refused(|container| container.mounts[0].source = "/a,b".into()),
            "container.mounts is \"/a,b\"; allowed: absolute paths without commas, colons and control \
             characters"
        );
        assert!(refused(|c| c.workdir = Some("run".into())).starts_with("container.workdir"));
        assert!(refused(|c| c.image = "--help".into()).starts_with("container.image"));
        assert!(refused(|c| c.image = String::new()).starts_with("container.image"));
    }
}
