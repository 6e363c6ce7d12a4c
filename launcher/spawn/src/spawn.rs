//! MPI_Comm_spawn with an Info, its refusals as errors.

use std::ffi::{CString, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt as _;
use std::ptr;

use anyhow::{Context as _, bail};
use mpi::ffi;
use mpi::traits::AsRaw as _;

use crate::cli::Cli;

/// Becomes the rank's program, or says on which node there is none: Open MPI waits for ever for ranks whose
/// program it could not start, and says nothing until it is ended.
const SHELL: &str = "[ -f \"$0\" ] && [ -x \"$0\" ] || \
    { echo \"shardrun-spawn: $(uname -n) has no program $0\" >&2; exit 127; }; exec \"$0\" \"$@\"";

/// Starts the ranks, and parts from them once all of them run.
pub(crate) fn spawn(cli: &Cli) -> anyhow::Result<()> {
    let what = what(cli);
    let universe = mpi::initialize().context("MPI was initialised before")?;
    let world = universe.world();
    // Ending it properly would wait for ranks that may be dead.
    std::mem::forget(universe);
    // SAFETY: MPI is initialised; the communicator and the error handler are MPI's own.
    let status = unsafe { ffi::MPI_Comm_set_errhandler(world.as_raw(), ffi::RSMPI_ERRORS_RETURN) };
    check(status).context("MPI does not return errors")?;

    let program = c_string(OsStr::new("/bin/sh"))?;
    let words = [OsStr::new("-c"), OsStr::new(SHELL)];
    let words = words.into_iter().chain(cli.command.iter().map(|word| &**word));
    let arguments = words.map(c_string).collect::<anyhow::Result<Vec<_>>>()?;
    let mut argv: Vec<*mut c_char> =
        arguments.iter().map(|word| word.as_ptr().cast_mut()).collect();
    argv.push(ptr::null_mut());
    let info = Info::new(cli)?;
    let ranks = c_int::from(cli.ranks.cast_signed());
    let mut codes = vec![0; usize::from(cli.ranks)];
    // SAFETY: overwritten by MPI before it is read.
    let mut children = unsafe { ffi::RSMPI_COMM_NULL };
    // SAFETY: `program` and `argv` are terminated by NUL and null and outlive the call, which copies them;
    // there is a code for each rank; the info is valid until it is dropped.
    let status = unsafe {
        ffi::MPI_Comm_spawn(
            program.as_ptr(),
            argv.as_mut_ptr(),
            ranks,
            info.0,
            0,
            world.as_raw(),
            &mut children,
            codes.as_mut_ptr(),
        )
    };
    drop(info);
    check(status).with_context(|| format!("MPI refuses to spawn {what}"))?;
    if let Some((rank, code)) = codes.iter().enumerate().find(|(_, code)| **code != 0) {
        bail!("MPI refuses to spawn {what}: rank {rank} has error code {code}");
    }
    // SAFETY: the intercommunicator was just made, and nothing uses it afterwards. The ranks do the same
    // first of all, so this waits for their start only.
    check(unsafe { ffi::MPI_Comm_disconnect(&mut children) }).context("the ranks did not part")
}

/// What is to be spawned, and where.
pub(crate) fn what(cli: &Cli) -> String {
    let mut what = format!("{} of {}", cli.ranks, cli.command[0].display());
    if let Some(hosts) = &cli.hosts {
        what.push_str(" on ");
        what.push_str(hosts);
    }
    what
}

/// Variables that are set, one a line; as with mpirun, one that is not is none.
fn exported(names: &[String], get: impl Fn(&str) -> Option<String>) -> anyhow::Result<String> {
    let mut lines = Vec::new();
    for name in names {
        let line = match name.split_once('=') {
            Some(_) => Some(name.clone()),
            None => get(name).map(|value| format!("{name}={value}")),
        };
        lines.extend(line);
    }
    match lines.iter().find(|line| line.contains('\n')) {
        Some(line) => {
            bail!("MPI can't hand on a variable of several lines (launch.export): {line:?}")
        }
        None => Ok(lines.join("\n")),
    }
}

/// Where ranks go, as MPI's reserved keys say it.
struct Info(ffi::MPI_Info);

impl Info {
    fn new(cli: &Cli) -> anyhow::Result<Self> {
        // SAFETY: overwritten by MPI before it is read.
        let mut info = Self(unsafe { ffi::RSMPI_INFO_NULL });
        // SAFETY: the pointer is to a handle of ours.
        check(unsafe { ffi::MPI_Info_create(&mut info.0) })?;
        let hosts = cli.hosts.as_deref();
        let exported = exported(&cli.export, |name| std::env::var(name).ok())?;
        let pairs = [
            ("host", hosts),
            // Nodes that it knows must not be added again: Open MPI 4.1 then starts ranks on others.
            ("add-host", hosts.filter(|_| cli.add_hosts)),
            ("map_by", cli.map_by.as_deref()),
            ("wdir", cli.wdir.as_deref()),
            ("env", Some(&*exported).filter(|text| !text.is_empty())),
            ("bind_to", Some("none")),
        ];
        for (key, value) in pairs {
            if let Some(value) = value {
                info.set(key, value)?;
            }
        }
        Ok(info)
    }

    fn set(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let (key, value) = (c_string(OsStr::new(key))?, c_string(OsStr::new(value))?);
        // SAFETY: the info is valid, and both texts outlive the call, which copies them.
        check(unsafe { ffi::MPI_Info_set(self.0, key.as_ptr(), value.as_ptr()) })
            .with_context(|| format!("MPI does not take {key:?} = {value:?}"))
    }
}

impl Drop for Info {
    fn drop(&mut self) {
        // SAFETY: the info was made by MPI_Info_create, and is freed once. What can't be freed stays.
        let _ = unsafe { ffi::MPI_Info_free(&mut self.0) };
    }
}

/// MPI's word for a code that is no success.
fn check(status: c_int) -> anyhow::Result<()> {
    if status == ffi::MPI_SUCCESS as c_int {
        return Ok(());
    }
    let mut text = vec![0u8; ffi::MPI_MAX_ERROR_STRING as usize];
    let mut len = 0;
    // SAFETY: the buffer has the room that MPI asks for, and `len` is what it filled.
    unsafe { ffi::MPI_Error_string(status, text.as_mut_ptr().cast(), &mut len) };
    text.truncate(usize::try_from(len).unwrap_or(0));
    bail!("{}", String::from_utf8_lossy(&text))
}

fn c_string(text: &OsStr) -> anyhow::Result<CString> {
    CString::new(text.as_bytes()).with_context(|| format!("{text:?} has a NUL in it"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_handed_on_as_mpirun_does() {
        let get = |name: &str| match name {
            "A" => Some("1 2".to_owned()),
            "LINES" => Some("a\nb".to_owned()),
            _ => None,
        };
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        assert_eq!(exported(&names(&["A", "NONE", "B=x=y"]), get).unwrap(), "A=1 2\nB=x=y");
        assert_eq!(exported(&[], get).unwrap(), "");
        let error = exported(&names(&["A", "LINES"]), get).unwrap_err().to_string();
        assert!(error.contains("launch.export") && error.contains("LINES=a"), "{error}");
    }
}
