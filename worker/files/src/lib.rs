//! Weight files as checked, mapped views: GGUF headers, metadata and tensors.
//!
//! A file is input like any other: whatever its bytes, opening and reading it gives an answer or a
//! [`FileError`], never a panic. Nothing here knows what a model is.

mod dequantise;
mod error;
mod gguf;
mod tensor;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Fault, FileError};
pub use gguf::{Array, Gguf, StoredType, TensorInfo, Value};
pub use tensor::{MatrixView, Misaligned, TensorType};
