//! The folder of runs: whether it can be written to, and whether other nodes see it.

use std::path::{Path, PathBuf};

use nix::sys::statfs::statfs;
use nix::unistd::{AccessFlags, access};

use super::{Finding, Patient};
use crate::run::Runs;
use crate::submission::Size;

pub(super) fn look(patient: &Patient<'_>) -> anyhow::Result<Vec<Finding>> {
    let folder = match patient.deployment {
        Some(deployment) => deployment.run.dir.clone(),
        None => Runs::of(None)?.folder().to_owned(),
    };
    Ok(vec![runs(patient, &folder)])
}

fn runs(patient: &Patient<'_>, folder: &Path) -> Finding {
    const WHAT: &str = "run.dir";
    let there = existing(folder);
    let at = folder.display();
    if let Err(error) = access(&there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let found = format!("{at}: {} can't be written to ({error})", there.display());
        return Finding::failure(WHAT, found, "let run.dir name a folder of yours");
    }
    let kind = match statfs(&there) {
        // The kernel's numbers are 32 bits wide, whatever the platform's type.
        Ok(status) => Kind::of(status.filesystem_type().0 as u32),
        Err(error) => {
            return Finding::warning(WHAT, format!("{at}: {error}"), "see `stat --file-system`");
        }
    };
    let nodes = patient.deployment.and_then(|it| Size::of(it).ok()).map_or(1, |size| size.nodes);
    let matters = patient.has_slurm() || nodes > 1;
    let name = kind.name;
    match (kind.sharing, matters) {
        (Sharing::Shared, _) => {
            Finding::ok(WHAT, format!("{at}, on a network file system ({name})"))
        }
        (Sharing::Local, false) => {
            Finding::ok(WHAT, format!("{at}, on a local file system ({name})"))
        }
        (Sharing::Local, true) => Finding::warning(
            WHAT,
            format!("{at} is on a local file system ({name}), which other nodes may not see"),
            "unless it is shared by other means, let run.dir name a folder that all nodes share",
        ),
        (Sharing::Gone, _) => Finding::warning(
            WHAT,
            format!("{at} is in memory ({name}): it is gone with the machine, and only there"),
            "let run.dir name a folder on a disk that all nodes share",
        ),
        (Sharing::Unknown, _) => {
            Finding::ok(WHAT, format!("{at}, on a file system of the kind {name}"))
        }
    }
}

/// The folder, or the nearest above it that is there.
fn existing(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|folder| folder.exists());
    there.unwrap_or(Path::new("/")).to_owned()
}

/// Who sees the files of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Shared,
    Local,
    Gone,
    Unknown,
}

struct Kind {
    name: &'static str,
    sharing: Sharing,
}

/// Numbers of file systems: statfs(2) and the sources of those that aren't in the kernel.
const KINDS: &[(u32, &str, Sharing)] = &[
    (0x0000_6969, "nfs", Sharing::Shared),
    (0x0bd0_0bd0, "lustre", Sharing::Shared),
    (0x4750_4653, "gpfs", Sharing::Shared),
    (0x1983_0326, "beegfs", Sharing::Shared),
    (0x00c3_6400, "ceph", Sharing::Shared),
    (0xff53_4d42, "cifs", Sharing::Shared),
    (0xfe53_4d42, "smb", Sharing::Shared),
    (0x5346_414f, "afs", Sharing::Shared),
    (0xaad7_aaea, "panfs", Sharing::Shared),
    (0x0116_1970, "gfs2", Sharing::Shared),
    (0x7461_636f, "ocfs2", Sharing::Shared),
    (0x2003_0528, "orangefs", Sharing::Shared),
    (0x6573_5546, "fuse", Sharing::Unknown),
    (0x0102_1997, "9p", Sharing::Unknown),
    (0x6a65_6a63, "virtiofs", Sharing::Unknown),
    (0x0000_ef53, "ext4", Sharing::Local),
    (0x5846_5342, "xfs", Sharing::Local),
    (0x9123_683e, "btrfs", Sharing::Local),
    (0x2fc1_2fc1, "zfs", Sharing::Local),
    (0xf2f5_2010, "f2fs", Sharing::Local),
    (0x794c_7630, "overlay", Sharing::Local),
    (0x0102_1994, "tmpfs", Sharing::Gone),
    (0x8584_58f6, "ramfs", Sharing::Gone),
];

impl Kind {
    fn of(number: u32) -> Self {
        let found = KINDS.iter().find(|(of, ..)| *of == number);
        found.map_or(Self { name: "unknown to shardrun", sharing: Sharing::Unknown }, |kind| Self {
            name: kind.1,
            sharing: kind.2,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_not_there_is_judged_by_the_one_above() {
        assert_eq!(existing(Path::new("/proc/self/nothing/x")), Path::new("/proc/self"));
        assert_eq!(existing(Path::new("/")), Path::new("/"));
    }

    #[test]
    fn kinds_of_file_systems_differ() {
        for (at, (number, name, _)) in KINDS.iter().enumerate() {
            assert!(KINDS[..at].iter().all(|(other, of, _)| other != number && of != name));
        }
        assert_eq!(Kind::of(0x6969).sharing, Sharing::Shared);
        assert_eq!(Kind::of(1).sharing, Sharing::Unknown);
    }
}
