//! Metadata values.

/// A metadata value, as wide as the file stores it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are GGUF's own types")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// An array of metadata values of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants are GGUF's own types")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
}

impl Value {
    /// The type's name, for messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "a u8",
            Self::I8(_) => "an i8",
            Self::U16(_) => "a u16",
            Self::I16(_) => "an i16",
            Self::U32(_) => "a u32",
            Self::I32(_) => "an i32",
            Self::U64(_) => "a u64",
            Self::I64(_) => "an i64",
            Self::F32(_) => "an f32",
            Self::F64(_) => "an f64",
            Self::Bool(_) => "a bool",
            Self::String(_) => "a string",
            Self::Array(array) => array.type_name(),
        }
    }

    /// The number, if this is an integer of any width.
    #[must_use]
    pub fn integer(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(n) => n.into(),
            Self::I8(n) => n.into(),
            Self::U16(n) => n.into(),
            Self::I16(n) => n.into(),
            Self::U32(n) => n.into(),
            Self::I32(n) => n.into(),
            Self::U64(n) => n.into(),
            Self::I64(n) => n.into(),
            _ => return None,
        })
    }
}

impl Array {
    /// The type's name, for messages.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::U8(_) => "an array of u8",
            Self::I8(_) => "an array of i8",
            Self::U16(_) => "an array of u16",
            Self::I16(_) => "an array of i16",
            Self::U32(_) => "an array of u32",
            Self::I32(_) => "an array of i32",
            Self::U64(_) => "an array of u64",
            Self::I64(_) => "an array of i64",
            Self::F32(_) => "an array of f32",
            Self::F64(_) => "an array of f64",
            Self::Bool(_) => "an array of bool",
            Self::String(_) => "an array of strings",
            Self::Array(_) => "an array of arrays",
        }
    }

    /// The numbers, if these are integers of any width.
    #[must_use]
    pub fn integers(&self) -> Option<Vec<i128>> {
        fn wide<T: Copy + Into<i128>>(numbers: &[T]) -> Option<Vec<i128>> {
            Some(numbers.iter().map(|&n| n.into()).collect())
        }
        match self {
            Self::U8(n) => wide(n),
            Self::I8(n) => wide(n),
            Self::U16(n) => wide(n),
            Self::I16(n) => wide(n),
            Self::U32(n) => wide(n),
            Self::I32(n) => wide(n),
            Self::U64(n) => wide(n),
            Self::I64(n) => wide(n),
            _ => None,
        }
    }
}
