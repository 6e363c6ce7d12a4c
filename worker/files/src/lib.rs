//! Weight files as checked, mapped views: GGUF headers, metadata and tensors.

mod tensor;

pub use tensor::{MatrixView, Misaligned, TensorType};
