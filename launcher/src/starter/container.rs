//! The container that the ranks of a step run in. Pure.

use std::path::Path;

use anyhow::Context as _;
use shardrun_config::{ContainerRuntime, Deployment, ModelSource};
use shardrun_slurm::{Container, Mount, Runtime};

/// The deployment's container, if it has one: with the run's directory `folder`, its logs, the models'
/// folders and the program `worker` where they are outside.
pub(super) fn container(
    deployment: &Deployment,
    folder: &Path,
    worker: &Path,
) -> anyhow::Result<Option<Container>> {
    let slurm = &deployment.slurm;
    let Some(image) = &slurm.container else { return Ok(None) };
    let logs = deployment.run.log_dir.as_deref().filter(|logs| !logs.starts_with(folder));
    let models = deployment.models.iter().filter_map(|model| match &model.source {
        ModelSource::Path(path) => path.parent(),
        ModelSource::Pypi { .. } => None,
    });
    // The file alone: its folder may be one that the image has, too, such as /usr/bin. One that is looked
    // for on PATH is the image's.
    let worker = Some(worker).filter(|worker| worker.is_absolute());
    let written = std::iter::once(folder).chain(logs).map(|path| (path, false));
    let read = models.chain(worker).map(|path| (path, true));
    let mut mounts = Vec::new();
    for (path, read_only) in written.chain(read) {
        let path = path.to_str().with_context(|| format!("{path:?} is not UTF-8"))?;
        let mount = Mount { source: path.into(), target: path.into(), read_only };
        if !mounts.contains(&mount) {
            mounts.push(mount);
        }
    }
    for text in &slurm.container_mounts {
        mounts.push(mount(text)?);
    }
    Ok(Some(Container {
        runtime: match slurm.container_runtime {
            ContainerRuntime::Pyxis => Runtime::Pyxis,
            ContainerRuntime::Apptainer => Runtime::Apptainer,
        },
        image: image.clone(),
        mounts,
        workdir: slurm.container_workdir.clone(),
        nvidia: slurm.gpus_per_node.is_some() || slurm.gres.is_some(),
    }))
}

/// Checks that the deployment's container, if it has one, can be asked for.
///
/// # Errors
/// Names the value that can't be written.
pub(crate) fn check_container(
    deployment: &Deployment,
    folder: &Path,
    worker: &Path,
) -> anyhow::Result<()> {
    match container(deployment, folder, worker)? {
        Some(container) => container.check().context("slurm.container can't be run so"),
        None => Ok(()),
    }
}

/// `FROM:TO` or `FROM:TO:ro`.
fn mount(text: &str) -> anyhow::Result<Mount> {
    let parts: Vec<_> = text.split(':').collect();
    let (source, target, read_only) = match parts.as_slice() {
        [source, target] => (*source, *target, false),
        [source, target, "ro"] => (*source, *target, true),
        _ => anyhow::bail!("slurm.container_mounts has {text:?}: expected FROM:TO or FROM:TO:ro"),
    };
    Ok(Mount { source: source.into(), target: target.into(), read_only })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn mounts(more: &str, worker: &str) -> Vec<String> {
        let text = format!(
            "name = \"d\"\nmodel.source = \"/m/a.gguf\"\nrun.dir = \"/r\"\nslurm.container = \"i\"\n{more}"
        );
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let container = container(&deployment, Path::new("/r/d-1"), Path::new(worker)).unwrap();
        let text =
            |mount: Mount| format!("{}{}", mount.source, if mount.read_only { " ro" } else { "" });
        container.unwrap().mounts.into_iter().map(text).collect()
    }

    #[test]
    fn ranks_see_what_they_run_read_and_write() {
        let worker = "/opt/bin/shardrun-worker";
        assert_eq!(mounts("", worker), ["/r/d-1", "/m ro", "/opt/bin/shardrun-worker ro"]);
        assert_eq!(mounts("run.log_dir = \"/r/d-1/logs\"", worker).len(), 3);
        assert_eq!(
            mounts("run.log_dir = \"/logs\"\nslurm.container_mounts = [\"/data:/d:ro\"]", "worker"),
            ["/r/d-1", "/logs", "/m ro", "/data ro"]
        );
    }

    #[test]
    fn what_is_no_mount_is_refused() {
        for text in ["/a", "/a:/b:rw", "/a:/b:ro:x", ""] {
            assert!(mount(text).is_err(), "{text}");
        }
    }
}
