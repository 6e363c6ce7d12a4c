//! What a cluster needs of this machine.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use anyhow::Context as _;

/// The programs, and the packages of Debian that have them.
const PROGRAMS: [(&str, &str); 9] = [
    ("slurmctld", "slurm-wlm"),
    ("slurmd", "slurm-wlm"),
    ("srun", "slurm-wlm"),
    ("munged", "munge"),
    ("ip", "iproute2"),
    ("mount", "mount"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("unshare", "util-linux"),
];

/// The capabilities, with their numbers in capabilities(7): to make users' files and processes theirs,
/// links, namespaces and mounts, and device files.
const CAPABILITIES: [(&str, u32); 7] = [
    ("CAP_CHOWN", 0),
    ("CAP_KILL", 5),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_MKNOD", 27),
];

/// Makes one of each thing that a kernel or a container may lack or forbid.
const PROBE: &str = "mount -t tmpfs tmpfs /tmp && ip link add name switch type bridge && \
                     ip link add name one type veth peer name other";

/// What a cluster needs and this machine hasn't: a test that gets this error can't run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing(Vec<String>);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a Slurm cluster can't be started here; missing: {}", self.0.join(", "))
    }
}

impl std::error::Error for Missing {}

/// Looks whether everything is there.
///
/// # Errors
/// [`Missing`], with everything that isn't; or if the system can't say.
pub(super) fn check() -> anyhow::Result<()> {
    let mut missing = Vec::new();
    let folders = search_path();
    for (program, package) in PROGRAMS {
        if !std::env::split_paths(&folders).any(|folder| folder.join(program).is_file()) {
            missing.push(format!("the program {program} (in Debian's package {package})"));
        }
    }
    if !nix::unistd::geteuid().is_root() {
        missing.push("the user root".to_owned());
    }
    let status = fs::read_to_string("/proc/self/status")?;
    missing.extend(lacking(&status)?.into_iter().map(str::to_owned));
    if missing.is_empty() {
        let probe = Command::new("unshare")
            .args(["--uts", "--ipc", "--net", "--mount", "--pid", "--fork", "sh", "-c", PROBE])
            .env("PATH", folders)
            .stdin(Stdio::null())
            .output()?;
        if !probe.status.success() {
            let said = String::from_utf8_lossy(&probe.stderr);
            missing.push(format!("namespaces with bridges in them ({})", said.trim()));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Missing(missing).into()) }
}

/// The capabilities that a process with this /proc/PID/status lacks.
fn lacking(status: &str) -> anyhow::Result<Vec<&'static str>> {
    let mut lines = status.lines();
    let effective = lines.find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.context("/proc/self/status has the effective capabilities")?;
    let effective = u64::from_str_radix(effective.trim(), 16)?;
    let lacks = |(name, bit)| (effective >> bit & 1 == 0).then_some(name);
    Ok(CAPABILITIES.into_iter().filter_map(lacks).collect())
}

/// Where programs are: also where only administrators look.
pub(super) fn search_path() -> String {
    let given = std::env::var("PATH").unwrap_or_default();
    format!("{given}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_lack_are_named() {
        let status = |bits: &str| format!("Name:\ta\nCapPrm:\t0\nCapEff:\t{bits}\nCapBnd:\t0\n");
        assert!(lacking(&status("000001ffffffffff")).unwrap().is_empty());
        // What Docker leaves by default.
        let some = lacking(&status("00000000a80425fb")).unwrap();
        assert_eq!(some, ["CAP_NET_ADMIN", "CAP_SYS_ADMIN"]);
        assert_eq!(lacking(&status("0000000000000000")).unwrap().len(), CAPABILITIES.len());
        assert!(lacking("Name:\ta\n").is_err());
    }
}
