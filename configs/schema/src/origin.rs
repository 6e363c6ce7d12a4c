//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// A place in a deployment file. Lines and columns count from 1, columns in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file, as the caller named it.
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// The layer that decided a value; later ones win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The key table.
    Default,
    /// The deployment file.
    File(Position),
    /// The environment variable of this name.
    Env(String),
    /// The command line.
    Flag,
}

/// The form for tables: `default`, `FILE:LINE`, the variable's name, or `command line`.
impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(at) => write!(f, "{}:{}", at.file.display(), at.line),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag => f.write_str("command line"),
        }
    }
}

impl Origin {
    /// The form that begins an error message: like `Display`, with the column for a file.
    pub(crate) fn lead(&self) -> String {
        match self {
            Origin::File(at) => at.to_string(),
            other => other.to_string(),
        }
    }
}
