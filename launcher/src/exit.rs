//! Errors to exit codes, in one place: 0 ok, 1 failed, 2 usage, 3 Slurm refused, 4 lost a rank.

use std::io::ErrorKind;
use std::process::ExitCode;

use shardrun_config::{ConfigErrors, with_causes};
use shardrun_slurm::SlurmError;

use crate::supervisor::Ended;

const OK: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const REFUSED_BY_SLURM: u8 = 3;
const LOST_A_RANK: u8 = 4;

/// Writes the error to the terminal, and gives the code to exit with.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    let code = code(error);
    if code != OK {
        match error.downcast_ref::<ConfigErrors>() {
            // Each of its lines begins with its own place.
            Some(errors) => eprintln!("{errors}"),
            None => eprintln!("shardrun: {}", with_causes(error.as_ref())),
        }
    }
    ExitCode::from(code)
}

/// The code that an error ends this program with.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    if let Some(errors) = error.downcast_ref::<ConfigErrors>() {
        return if errors.is_usage() { USAGE } else { FAILED };
    }
    if error
        .downcast_ref::<SlurmError>()
        .is_some_and(|error| matches!(error, SlurmError::Refused { .. }))
    {
        return REFUSED_BY_SLURM;
    }
    if error.downcast_ref::<Ended>().is_some_and(|ended| ended.lost_a_rank) {
        return LOST_A_RANK;
    }
    match error.downcast_ref::<std::io::Error>() {
        // Whoever read the output has seen enough.
        Some(error) if error.kind() == ErrorKind::BrokenPipe => OK,
        _ => FAILED,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use shardrun_config::Deployment;

    use super::*;

    #[test]
    fn a_closed_pipe_is_success() {
        assert_eq!(code(&std::io::Error::from(ErrorKind::BrokenPipe).into()), OK);
        assert_eq!(code(&std::io::Error::from(ErrorKind::NotFound).into()), FAILED);
        assert_eq!(code(&anyhow::anyhow!("no")), FAILED);
    }

    #[test]
    fn a_bad_file_has_failed_and_a_bad_flag_is_misuse() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.toml");
        std::fs::write(&path, "name = \"x\"\n[model]\nsource = \"/m\"\n[run]\ndir = \"/r\"\n")
            .unwrap();
        let load = |flags: &[(&str, &str)]| {
            let flags: Vec<_> =
                flags.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            Deployment::load(&path, std::iter::empty(), &flags).unwrap_err().into()
        };
        assert_eq!(code(&load(&[("model.tp_size", "none")])), USAGE);
        std::fs::write(&path, "name = 3").unwrap();
        assert_eq!(code(&load(&[])), FAILED);
    }
}
