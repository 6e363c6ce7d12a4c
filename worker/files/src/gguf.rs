//! A GGUF file, mapped: typed access to its metadata, and its tensors as views.
//!
//! The format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>, versions 2 and 3.

mod cursor;
mod header;
mod metadata;
mod tensors;
mod value;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use memmap2::Mmap;

use crate::FileError;
use header::Header;
pub use header::{StoredType, TensorInfo};
pub use value::{Array, Value};

/// An open GGUF file. Its metadata is copied; its tensors stay in the page cache, and are read when
/// they are touched.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    map: Mmap,
    header: Header,
}

impl Gguf {
    /// Maps the file read-only and checks its header.
    ///
    /// Tensors of types that are not read are no error until they are asked for.
    ///
    /// # Errors
    /// If the file can't be mapped, or its header is not that of a sound GGUF file.
    pub fn open(path: &Path) -> Result<Self, FileError> {
        let cannot = |source| FileError::Open { path: path.into(), source };
        // Asked before opening: opening a pipe would wait for a writer.
        if !fs::metadata(path).map_err(cannot)?.is_file() {
            return Err(FileError::NotAFile { path: path.into() });
        }
        let file = File::open(path).map_err(cannot)?;
        // SAFETY: the mapping is read-only and private to this struct, which outlives every slice
        // of it. Weight files are not to be changed while they are served: a write by someone else
        // would show in the weights, and a truncation ends the process with SIGBUS. Neither can
        // lead outside the mapping, since names, shapes and ranges are checked copies.
        let map = unsafe { Mmap::map(&file) }.map_err(cannot)?;
        let header =
            header::read(&map).map_err(|fault| FileError::Damaged { path: path.into(), fault })?;
        Ok(Self { path: path.into(), map, header })
    }

    /// The file's name, as it was opened.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file's size in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.map.len() as u64
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
