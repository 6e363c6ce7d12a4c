//! Tensors as views of the mapping.

use super::{Gguf, StoredType, TensorInfo};
use crate::{FileError, MatrixView, TensorType};

/// The types that matrices are read in.
const READ: &str = "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K or Q6_K";

impl Gguf {
    /// Whether there is a tensor of this name.
    #[must_use]
    pub fn has_tensor(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// Every tensor, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorInfo)> {
        self.header.tensors.iter().map(|(name, info)| (name.as_str(), info))
    }

    /// A tensor of two dimensions: `[rows, columns]`, which GGUF lists as columns, then rows.
    ///
    /// # Errors
    /// If it is absent, has another number of dimensions, or a type that is not read.
    pub fn matrix(&self, name: &str) -> Result<MatrixView<'_>, FileError> {
        let info = self.tensor(name, 2)?;
        let tensor_type = match info.stored {
            StoredType::Read(tensor_type) => tensor_type,
            StoredType::Unread(_) => {
                return Err(self.tensor_type(name, info, READ));
            }
        };
        let [columns, rows] = [info.shape[0], info.shape[1]].map(|n| n as usize);
        Ok(MatrixView::new(tensor_type, rows, columns, &self.map[info.range.clone()])
            .expect("the header's check compared shape, type and range"))
    }

    /// A tensor of one dimension, F32, F16 or BF16, as floats.
    ///
    /// # Errors
    /// If it is absent, has another number of dimensions, or another type.
    pub fn vector(&self, name: &str) -> Result<Vec<f32>, FileError> {
        let info = self.tensor(name, 1)?;
        let StoredType::Read(tensor_type @ (TensorType::F32 | TensorType::F16 | TensorType::BF16)) =
            info.stored
        else {
            return Err(self.tensor_type(name, info, "F32, F16 or BF16"));
        };
        let data = &self.map[info.range.clone()];
        let len = data.len() / tensor_type.block_bytes();
        let mut floats = vec![0.0; len];
        MatrixView::new(tensor_type, 1, len, data)
            .expect("a checked tensor is a whole number of floats")
            .dequantise_row(0, &mut floats);
        Ok(floats)
    }

    fn tensor(&self, name: &str, dimensions: usize) -> Result<&TensorInfo, FileError> {
        let info = self.header.tensors.get(name).ok_or_else(|| FileError::NoTensor {
            path: self.path.clone(),
            name: name.to_owned(),
        })?;
        if info.shape.len() != dimensions {
            return Err(self.tensor_shape(name, info, dimensions));
        }
        Ok(info)
    }

    fn tensor_shape(&self, name: &str, info: &TensorInfo, wanted: usize) -> FileError {
        FileError::TensorShape {
            path: self.path.clone(),
            name: name.to_owned(),
            found: info.shape.clone(),
            wanted,
        }
    }

    fn tensor_type(&self, name: &str, info: &TensorInfo, wanted: &'static str) -> FileError {
        FileError::TensorType {
            path: self.path.clone(),
            name: name.to_owned(),
            found: info.stored.name(),
            wanted,
        }
    }
}
