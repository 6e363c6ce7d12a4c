//! The command that starts every rank under Open MPI's mpirun. Pure.

use std::ffi::OsString;
use std::path::Path;

use shardrun_config::Layout;

/// Variables that ranks on other nodes need from the launcher's environment; on its own node
/// mpirun hands on all of them.
pub(crate) const EXPORTED: &[&str] = &[];

/// What the command is made of.
#[derive(Debug)]
pub(crate) struct Mpirun<'a> {
    /// The mpirun to run.
    pub(crate) program: &'a Path,
    /// Where the ranks go.
    pub(crate) layout: &'a Layout,
    /// Slots of each node, as mpirun counts them.
    pub(crate) slots: &'a [usize],
    /// The user; mpirun wants root to say so.
    pub(crate) uid: u32,
    /// Names of variables to hand on.
    pub(crate) exported: &'a [&'a str],
    /// The program of every rank.
    pub(crate) worker: &'a Path,
    /// The deployment that ranks read.
    pub(crate) config: &'a Path,
}

impl Mpirun<'_> {
    /// The command, program first.
    pub(crate) fn argv(&self) -> Vec<OsString> {
        let mut argv = vec![self.program.into()];
        let mut add = |words: &[&str]| argv.extend(words.iter().map(OsString::from));
        // Ranks bind their own threads: mpirun would bind all of a rank's to one core.
        add(&["-n", &self.layout.world_size().to_string(), "--bind-to", "none"]);
        if self.slots.iter().enumerate().any(|(node, &slots)| self.layout.ranks_on(node) > slots) {
            add(&["--oversubscribe"]);
        }
        if self.uid == 0 {
            add(&["--allow-run-as-root"]);
        }
        for name in self.exported {
            add(&["-x", name]);
        }
        argv.push(self.worker.into());
        argv.push("--config".into());
        argv.push(self.config.into());
        argv
    }
}

/// A command as one line for a POSIX shell.
pub(crate) fn shell_line(argv: &[OsString]) -> String {
    let words: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
    let quoted = shlex::try_join(words.iter().map(AsRef::as_ref));
    quoted.unwrap_or_else(|_| words.join(" ")) // only a NUL can't be quoted, nor be in an argument
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::{Allocation, Deployment, NodeAllocation};

    use super::*;

    fn line(tp_size: usize, slots: usize, uid: u32, exported: &[&str]) -> String {
        let text = format!(
            "name = \"d\"\nmodel.source = \"/m\"\nmodel.tp_size = {tp_size}\nrun.dir = \"/r\""
        );
        let deployment = Deployment::from_resolved_toml(&text).unwrap();
        let node = NodeAllocation { host: "a".into(), cores: vec![0, 1], cpu_limit: None };
        let layout = Layout::new(&deployment, &Allocation { nodes: vec![node] }).unwrap();
        let command = Mpirun {
            program: Path::new("mpirun"),
            layout: &layout,
            slots: &[slots],
            uid,
            exported,
            worker: Path::new("/opt/shardrun-worker"),
            config: Path::new("/my runs/d.toml"),
        };
        shell_line(&command.argv())
    }

    #[test]
    fn ranks_that_have_cores_are_simply_started() {
        assert_eq!(
            line(2, 2, 1000, &[]),
            "mpirun -n 2 --bind-to none /opt/shardrun-worker --config '/my runs/d.toml'"
        );
    }

    #[test]
    fn root_and_more_ranks_than_cores_are_said() {
        assert_eq!(
            line(2, 1, 0, &["A", "B"]),
            "mpirun -n 2 --bind-to none --oversubscribe --allow-run-as-root -x A -x B \
             /opt/shardrun-worker --config '/my runs/d.toml'"
        );
    }
}
