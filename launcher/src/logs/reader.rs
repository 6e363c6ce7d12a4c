//! Reading a log by lines, while it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::Context as _;

use super::Source;

/// What is read at once.
const CHUNK: usize = 64 << 10;
/// A line that is longer is told in parts.
const LONGEST_LINE: usize = 1 << 20;

/// A log that is read.
#[derive(Debug)]
pub(crate) struct Reader {
    source: Source,
    file: File,
    at: u64,
    /// A line whose end hasn't come.
    begun: Vec<u8>,
}

impl Reader {
    /// Reads from the last `lines` on, or from the start.
    pub(crate) fn open(source: Source, lines: Option<usize>) -> anyhow::Result<Self> {
        let open = || {
            let mut file = File::open(&source.path)?;
            let at = match lines {
                Some(lines) => start_of_last(&mut file, lines)?,
                None => 0,
            };
            Ok::<_, io::Error>((file, at))
        };
        let (file, at) =
            open().with_context(|| format!("cannot read {}", source.path.display()))?;
        Ok(Self { source, file, at, begun: Vec::new() })
    }

    /// Gives every line that has come since, without its end; with `all`, also one that has none. Says
    /// whether there was any.
    pub(crate) fn read(
        &mut self,
        all: bool,
        mut each: impl FnMut(&Source, &[u8]) -> io::Result<()>,
    ) -> io::Result<bool> {
        if self.file.metadata()?.len() < self.at {
            // Somebody emptied it.
            (self.at, self.begun) = (0, Vec::new());
        }
        self.file.seek(SeekFrom::Start(self.at))?;
        let mut chunk = vec![0; CHUNK];
        let mut any = false;
        loop {
            let count = self.file.read(&mut chunk)?;
            if count == 0 {
                break;
            }
            any = true;
            self.at += count as u64;
            for part in chunk[..count].split_inclusive(|&byte| byte == b'\n') {
                self.begun.extend_from_slice(part);
                if part.ends_with(b"\n") || self.begun.len() >= LONGEST_LINE {
                    each(&self.source, without_end(&self.begun))?;
                    self.begun.clear();
                }
            }
        }
        if all && !self.begun.is_empty() {
            each(&self.source, without_end(&self.begun))?;
            self.begun.clear();
        }
        Ok(any)
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// Where the last `lines` lines begin.
fn start_of_last(file: &mut File, lines: usize) -> io::Result<u64> {
    let end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut from = end;
    let mut missing = lines;
    while from > 0 {
        let size = (CHUNK as u64).min(from);
        from -= size;
        file.seek(SeekFrom::Start(from))?;
        let mut chunk = vec![0; size as usize];
        file.read_exact(&mut chunk)?;
        for (at, _) in chunk.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            let next = from + at as u64 + 1;
            // The end of the file's last line begins no other.
            if next == end {
                continue;
            }
            missing -= 1;
            if missing == 0 {
                return Ok(next);
            }
        }
    }
    Ok(0)
}

/// The last lines of a file, control characters left out.
pub(crate) fn last_lines(path: &Path, lines: usize) -> anyhow::Result<Vec<String>> {
    let source = Source { instance: None, rank: None, host: None, path: path.to_owned() };
    let mut found = Vec::new();
    Reader::open(source, Some(lines))?.read(true, |_, line| {
        let text = String::from_utf8_lossy(line);
        found.push(text.chars().filter(|c| !c.is_control() || *c == '\t').collect());
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn reader(path: &Path, lines: Option<usize>) -> Reader {
        let source = Source { instance: None, rank: None, host: None, path: path.to_owned() };
        Reader::open(source, lines).unwrap()
    }

    fn read(reader: &mut Reader, all: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let each = |_: &Source, line: &[u8]| {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
            Ok(())
        };
        reader.read(all, each).unwrap();
        lines
    }

    #[test]
    fn what_is_appended_comes_line_by_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let mut reader = reader(file.path(), None);
        assert!(read(&mut reader, false).is_empty());
        file.write_all(b"one\r\ntwo\nthr").unwrap();
        assert_eq!(read(&mut reader, false), ["one", "two"]);
        file.write_all(b"ee\nfour").unwrap();
        assert_eq!(read(&mut reader, false), ["three"]);
        assert_eq!(read(&mut reader, true), ["four"]);
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(b"new\n").unwrap();
        assert_eq!(read(&mut reader, false), ["new"]);
    }

    #[test]
    fn the_last_lines_are_found_in_files_of_any_size() {
        let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
        for end in ["", "half"] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("{text}{end}")).unwrap();
            let all = read(&mut reader(file.path(), None), true);
            for lines in [0, 1, 2, 9_000, 19_999, 20_000, 20_001, 30_000] {
                let from = all.len().saturating_sub(lines);
                assert_eq!(
                    read(&mut reader(file.path(), Some(lines)), true),
                    all[from..],
                    "{lines}"
                );
            }
        }
        let empty = tempfile::NamedTempFile::new().unwrap();
        assert!(last_lines(empty.path(), 5).unwrap().is_empty());
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\x1b[31mred\x07\tend\n").unwrap();
        assert_eq!(last_lines(file.path(), 1).unwrap(), ["[31mred\tend"]);
    }
}
