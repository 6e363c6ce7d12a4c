//! Weight files as checked, mapped views: GGUF headers, metadata and tensors.
//!
//! A file is input like any other: whatever its bytes, opening and reading it gives an answer or a
//! [`FileError`], never a panic. Nothing here knows what a model is.

mod dequantise;
mod error;
mod gguf;
mod sub_block;
mod tensor;
mod tensor_type;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use error::{Fault, FileError};
pub use gguf::{Array, Gguf, StoredType, TensorInfo, Value};
pub use sub_block::{StoredScales, SubBlock, decode_sub_block, stored_scales};
pub use tensor::{MatrixView, Misaligned, RowBlocks};
pub use tensor_type::TensorType;
