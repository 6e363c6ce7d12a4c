//! Each rank's log is a file of its own; the leader's is also shown on the terminal.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::IsTerminal;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use shardrun_config::LogLevel;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::fmt::time::SystemTime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::exit::LAST_WORDS;

/// The log of a rank in `folder`.
pub(crate) fn path(folder: &Path, rank: usize, host: &str) -> PathBuf {
    folder.join(format!("rank{rank}.{host}.log"))
}

/// Which of a rank's messages the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnTerminal {
    /// None: a follower's.
    Nothing,
    /// All but the last words, which a supervisor shows.
    AllButLastWords,
    /// All of them.
    All,
}

/// Sends this rank's messages to its file, and a leader's to the terminal as well. What
/// libraries write to a follower's standard output and error goes to its file.
pub(crate) fn start(path: &Path, on_terminal: OnTerminal, level: LogLevel) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        let make = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        make.with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))?;
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    if on_terminal == OnTerminal::Nothing {
        redirect(&file).context("cannot redirect standard output to the log")?;
    }
    let to_file = fmt::layer()
        .with_writer(Mutex::new(file))
        .with_ansi(false)
        .with_timer(SystemTime)
        .with_filter(level);
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let shown = move |metadata: &tracing::Metadata<'_>| {
        on_terminal == OnTerminal::All || metadata.target() != LAST_WORDS
    };
    let to_terminal = (on_terminal != OnTerminal::Nothing).then(|| {
        fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(color)
            .with_target(false)
            .with_filter(filter_fn(shown))
            .with_filter(level.min(LevelFilter::INFO))
    });
    tracing_subscriber::registry().with(to_file).with(to_terminal).init();
    Ok(())
}

fn redirect(file: &File) -> nix::Result<()> {
    nix::unistd::dup2_stdout(file)?;
    nix::unistd::dup2_stderr(file)
}
