//! Small GGUF files for tests.

use std::{io, path::Path};

use crate::{Array, TensorType, Value};

/// Collects metadata and tensors, and lays them out as a GGUF file of version 3.
#[derive(Clone, Debug, Default)]
pub struct GgufBuilder {
    entries: Vec<(String, Value)>,
    tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

impl GgufBuilder {
    /// A file of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a metadata value.
    #[must_use]
    pub fn value(mut self, key: &str, value: Value) -> Self {
        self.entries.push((key.to_owned(), value));
        self
    }

    /// Takes a metadata value away again; whether there was one.
    pub fn remove(&mut self, key: &str) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(name, _)| name != key);
        self.entries.len() < before
    }

    /// Adds a string.
    #[must_use]
    pub fn string(self, key: &str, text: &str) -> Self {
        self.value(key, Value::String(text.to_owned()))
    }

    /// Adds an array of strings.
    #[must_use]
    pub fn strings<S: Into<String>>(self, key: &str, texts: impl IntoIterator<Item = S>) -> Self {
        self.value(key, Value::Array(Array::String(texts.into_iter().map(Into::into).collect())))
    }

    /// Adds a tensor of `shape`, the dimension along memory first.
    #[must_use]
    pub fn tensor(self, name: &str, shape: &[u64], tensor_type: TensorType, data: &[u8]) -> Self {
        self.tensor_of(name, shape, tensor_type.ggml_id(), data)
    }

    /// Adds a tensor stored as ggml's type number `type_id`.
    #[must_use]
    pub fn tensor_of(mut self, name: &str, shape: &[u64], type_id: u32, data: &[u8]) -> Self {
        self.tensors.push((name.to_owned(), shape.to_vec(), type_id, data.to_vec()));
        self
    }

    /// The whole file.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let alignment = self
            .entries
            .iter()
            .find(|(key, _)| key == "general.alignment")
            .and_then(|(_, value)| value.integer())
            .and_then(|n| usize::try_from(n).ok())
            .filter(|&n| n > 0)
            .unwrap_or(32);
        let mut file = b"GGUF".to_vec();
        file.extend(3_u32.to_le_bytes());
        file.extend((self.tensors.len() as u64).to_le_bytes());
        file.extend((self.entries.len() as u64).to_le_bytes());
        for (key, value) in &self.entries {
            put_string(&mut file, key);
            put_value(&mut file, value);
        }
        let mut data = Vec::new();
        for (name, shape, type_id, bytes) in &self.tensors {
            put_string(&mut file, name);
            file.extend((shape.len() as u32).to_le_bytes());
            shape.iter().for_each(|n| file.extend(n.to_le_bytes()));
            file.extend(type_id.to_le_bytes());
            file.extend((data.len() as u64).to_le_bytes());
            data.extend(bytes);
            data.resize(data.len().next_multiple_of(alignment), 0);
        }
        file.resize(file.len().next_multiple_of(alignment), 0);
        file.extend(data);
        file
    }

    /// Writes the whole file to `path`.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        std::fs::write(path, self.bytes())
    }
}

fn put_string(file: &mut Vec<u8>, text: &str) {
    file.extend((text.len() as u64).to_le_bytes());
    file.extend(text.as_bytes());
}

fn put_value(file: &mut Vec<u8>, value: &Value) {
    fn put<const N: usize>(file: &mut Vec<u8>, type_id: u32, bytes: [u8; N]) {
        file.extend(type_id.to_le_bytes());
        file.extend(bytes);
    }
    match value {
        Value::U8(n) => put(file, 0, n.to_le_bytes()),
        Value::I8(n) => put(file, 1, n.to_le_bytes()),
        Value::U16(n) => put(file, 2, n.to_le_bytes()),
        Value::I16(n) => put(file, 3, n.to_le_bytes()),
        Value::U32(n) => put(file, 4, n.to_le_bytes()),
        Value::I32(n) => put(file, 5, n.to_le_bytes()),
        Value::F32(n) => put(file, 6, n.to_le_bytes()),
        Value::Bool(n) => put(file, 7, [u8::from(*n)]),
        Value::U64(n) => put(file, 10, n.to_le_bytes()),
        Value::I64(n) => put(file, 11, n.to_le_bytes()),
        Value::F64(n) => put(file, 12, n.to_le_bytes()),
        Value::String(text) => {
            file.extend(8_u32.to_le_bytes());
            put_string(file, text);
        }
        Value::Array(array) => {
            file.extend(9_u32.to_le_bytes());
            put_array(file, array);
        }
    }
}

fn put_array(file: &mut Vec<u8>, array: &Array) {
    fn put<T: Copy, const N: usize>(
        file: &mut Vec<u8>,
        type_id: u32,
        numbers: &[T],
        to_le: fn(T) -> [u8; N],
    ) {
        put_head(file, type_id, numbers.len());
        numbers.iter().for_each(|&n| file.extend(to_le(n)));
    }
    fn put_head(file: &mut Vec<u8>, type_id: u32, len: usize) {
        file.extend(type_id.to_le_bytes());
        file.extend((len as u64).to_le_bytes());
    }
    match array {
        Array::U8(n) => put(file, 0, n, u8::to_le_bytes),
        Array::I8(n) => put(file, 1, n, i8::to_le_bytes),
        Array::U16(n) => put(file, 2, n, u16::to_le_bytes),
        Array::I16(n) => put(file, 3, n, i16::to_le_bytes),
        Array::U32(n) => put(file, 4, n, u32::to_le_bytes),
        Array::I32(n) => put(file, 5, n, i32::to_le_bytes),
        Array::F32(n) => put(file, 6, n, f32::to_le_bytes),
        Array::Bool(n) => put(file, 7, n, |truth| [u8::from(truth)]),
        Array::U64(n) => put(file, 10, n, u64::to_le_bytes),
        Array::I64(n) => put(file, 11, n, i64::to_le_bytes),
        Array::F64(n) => put(file, 12, n, f64::to_le_bytes),
        Array::String(texts) => {
            put_head(file, 8, texts.len());
            texts.iter().for_each(|text| put_string(file, text));
        }
        Array::Array(arrays) => {
            put_head(file, 9, arrays.len());
            arrays.iter().for_each(|array| put_array(file, array));
        }
    }
}
