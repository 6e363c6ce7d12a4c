//! What a starter prints: the leader's terminal output, and notices of its own. mpirun puts them between
//! rules of dashes, srun begins each with its name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

/// How long the last lines of a starter that has ended may take to be read.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A starter's notices are shown when nothing better explains its end, and kept in a file.
pub(super) struct StarterOutput {
    notices: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl StarterOutput {
    /// Shows what comes from the ranks as it comes, and copies everything to `log`.
    pub(super) fn show(streams: Vec<Box<dyn Read + Send>>, log: File) -> anyhow::Result<Self> {
        let notices = Arc::new(Mutex::new(String::new()));
        let log = Arc::new(Mutex::new(log));
        let reader = |stream: Box<dyn Read + Send>| {
            let (notices, log) = (notices.clone(), log.clone());
            std::thread::Builder::new()
                .name("starter-output".into())
                .spawn(move || pump(BufReader::new(stream), &notices, &log))
                .context("cannot start a thread")
        };
        let readers = streams.into_iter().map(reader).collect::<anyhow::Result<_>>()?;
        Ok(Self { notices, readers })
    }

    /// What the starter had to say, after its end. What it started may still hold its output open; that is
    /// not waited for.
    pub(super) fn notices(self) -> String {
        let until = Instant::now() + LAST_LINES;
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.notices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pump(mut lines: impl BufRead, notices: &Mutex<String>, log: &Mutex<File>) {
    let mut in_notice = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        // A full disk or a closed terminal is no reason to stop reading: the starter would block.
        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        let rule = is_rule(&line);
        if rule || in_notice || is_of_starter(&line) {
            let mut notices = notices.lock().unwrap_or_else(PoisonError::into_inner);
            if !rule {
                notices.push_str(&String::from_utf8_lossy(&line));
            }
        } else {
            let _ = std::io::stderr().write_all(&line);
        }
        in_notice ^= rule;
    }
}

fn is_of_starter(line: &[u8]) -> bool {
    [&b"srun: "[..], b"slurmstepd: ", b"shardrun-spawn: "].iter().any(|name| line.starts_with(name))
}

fn is_rule(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.len() >= 60 && line.iter().all(|&byte| byte == b'-')
}
