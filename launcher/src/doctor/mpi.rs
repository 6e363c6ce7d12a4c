//! The worker, and the MPI that it was built with beside the one that starts it.

use super::ask::ask;
use super::{Finding, Patient};
use crate::programs;
use crate::starter::Kind;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let library = worker();
    let family = library.as_ref().ok().and_then(|library| Family::of_library(library));
    let worker = match library {
        Ok(library) => Finding::ok("worker", library),
        Err(finding) => finding,
    };
    vec![worker, starter(patient, family)]
}

/// Which MPI a program belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    OpenMpi,
    Mpich,
}

impl Family {
    /// By the number of its library's interface, which Open MPI 1.10 to 5 and MPICH since 3 have kept.
    fn of_library(text: &str) -> Option<Self> {
        match text {
            text if text.contains("libmpi.so.40") => Some(Self::OpenMpi),
            text if text.contains("libmpi.so.12") || text.contains("libmpich.so") => {
                Some(Self::Mpich)
            }
            _ => None,
        }
    }

    /// By what `mpirun --version` says.
    fn of_starter(text: &str) -> Option<Self> {
        match text {
            text if text.contains("Open MPI")
                || text.contains("OpenRTE")
                || text.contains("PRTE") =>
            {
                Some(Self::OpenMpi)
            }
            text if text.contains("HYDRA") || text.contains("Intel(R) MPI") => Some(Self::Mpich),
            _ => None,
        }
    }
}

/// The worker, with its MPI library.
fn worker() -> Result<String, Finding> {
    const WHAT: &str = "worker";
    let no = || {
        Finding::failure(
            WHAT,
            format!("there is no {} beside shardrun or on PATH", programs::WORKER),
            "build it (`cargo build --release`), or let SHARDRUN_WORKER name it",
        )
    };
    let path = programs::worker().ok_or_else(no)?;
    // It says its version only if all its libraries are found.
    let (well, said) = ask(&path, &["--version"])
        .map_err(|why| Finding::failure(WHAT, why, "see that this machine can run it"))?;
    let first = said.lines().next().unwrap_or_default().trim().to_owned();
    if !well {
        let advice = "load the MPI module that it was built with, or build it here";
        return Err(Finding::failure(WHAT, format!("{}: {first}", path.display()), advice));
    }
    let libraries = ask("ldd", &[&path]).map(|(_, text)| text).unwrap_or_default();
    let mpi = libraries.lines().map(str::trim).find(|line| line.starts_with("libmpi"));
    let mpi = mpi.map_or(String::new(), |line| {
        format!(
            ", built with {}",
            line.split(" (").next().unwrap_or(line).replace(" => ", ", here ")
        )
    });
    Ok(format!("{} ({first}){mpi}", path.display()))
}

fn starter(patient: &Patient<'_>, library: Option<Family>) -> Finding {
    const WHAT: &str = "mpirun";
    let needed = match patient.starter() {
        Some(kind) => kind == Kind::Mpirun,
        None => !patient.has_slurm(),
    };
    let Some(path) = programs::starter(Kind::Mpirun) else {
        return match needed {
            true => Finding::failure(
                WHAT,
                "there is no mpirun on PATH",
                "load your site's MPI module, or install openmpi-bin",
            ),
            false if patient.starter() == Some(Kind::Worker) => {
                Finding::ok(WHAT, "there is none, nor needed for instances of one rank")
            }
            false => Finding::ok(WHAT, "there is none; srun starts the ranks"),
        };
    };
    let said = match ask(&path, &["--version"]) {
        Ok((true, said)) => said.lines().next().unwrap_or_default().trim().to_owned(),
        Ok((false, said)) => {
            let first = said.lines().next().unwrap_or_default();
            let found = format!("{}: {first}", path.display());
            return Finding::failure(WHAT, found, "repair the installation of MPI");
        }
        Err(why) => return Finding::failure(WHAT, why, "repair the installation of MPI"),
    };
    let found = format!("{}, {said}", path.display());
    match (library, Family::of_starter(&said)) {
        (Some(library), Some(starter)) if library != starter => Finding::failure(
            WHAT,
            format!("{found}; the worker was built with another MPI"),
            "each rank would be alone in its world: load the module that the worker was built with",
        ),
        _ => Finding::ok(WHAT, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mpis_are_told_apart() {
        for (library, starter, family) in [
            ("libmpi.so.40 => /lib/libmpi.so.40", "mpirun (Open MPI) 4.1.4", Some(Family::OpenMpi)),
            ("libmpi.so.40, here not found", "mpirun (PRTE) 3.0.1", Some(Family::OpenMpi)),
            ("libmpi.so.12 => /opt/lib/libmpi.so.12", "HYDRA build details:", Some(Family::Mpich)),
            (
                "libmpich.so.12",
                "Intel(R) MPI Library for Linux* OS, Version 2021",
                Some(Family::Mpich),
            ),
            ("libc.so.6", "something else", None),
        ] {
            assert_eq!(Family::of_library(library), family, "{library}");
            assert_eq!(Family::of_starter(starter), family, "{starter}");
        }
    }
}
