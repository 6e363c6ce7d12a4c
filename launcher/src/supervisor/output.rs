//! What mpirun prints: the leader's terminal output, and notices of its own between rules of dashes.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Context as _;

/// mpirun's notices are shown when nothing better explains its end, and kept in a file.
pub(crate) struct MpirunOutput {
    notices: Arc<Mutex<String>>,
    readers: Vec<JoinHandle<()>>,
}

impl MpirunOutput {
    /// Shows what comes from the ranks as it comes, and copies everything to `log`.
    pub(crate) fn show(streams: Vec<Box<dyn Read + Send>>, log: File) -> anyhow::Result<Self> {
        let notices = Arc::new(Mutex::new(String::new()));
        let log = Arc::new(Mutex::new(log));
        let reader = |stream: Box<dyn Read + Send>| {
            let (notices, log) = (notices.clone(), log.clone());
            std::thread::Builder::new()
                .name("mpirun-output".into())
                .spawn(move || pump(BufReader::new(stream), &notices, &log))
                .context("cannot start a thread")
        };
        let readers = streams.into_iter().map(reader).collect::<anyhow::Result<_>>()?;
        Ok(Self { notices, readers })
    }

    /// What mpirun had to say, after its end.
    pub(crate) fn notices(self) -> String {
        for reader in self.readers {
            // A reader that panicked has shown what it could.
            let _ = reader.join();
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
        // A full disk or a closed terminal is no reason to stop reading: mpirun would block.
        let _ = log.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line);
        let rule = is_rule(&line);
        if rule || in_notice {
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

fn is_rule(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    line.len() >= 60 && line.iter().all(|&byte| byte == b'-')
}
