//! What can be wrong with a weight file, and with what is asked of it.

use std::{io, path::PathBuf};

use thiserror::Error;

/// A file that cannot be used, or that does not hold what was asked for.
#[derive(Debug, Error)]
pub enum FileError {
    /// The system does not let us read it.
    #[error("cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is a folder, a pipe or a device.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// Its header is not that of a GGUF file that can be trusted.
    #[error("{path} is not a usable GGUF file: {fault}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: Fault,
    },
    /// A key that is needed is absent.
    #[error("{path} has no {key}")]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
    },
    /// A key's value has another type than its meaning asks for.
    #[error("{path}: {key} is {found}, expected {wanted}")]
    KeyType {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// The type in the file.
        found: String,
        /// The type that was asked for.
        wanted: &'static str,
    },
    /// An integer that does not fit.
    #[error("{path}: {key} is {value}, expected 0 to {}", u32::MAX)]
    KeyRange {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// The number in the file.
        value: i128,
    },
    /// A tensor that is needed is absent.
    #[error("{path} has no tensor {name}")]
    NoTensor {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor is stored in a way that this program does not read.
    #[error("{path}: tensor {name} is stored as {found}; expected {wanted}")]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The type in the file.
        found: String,
        /// The types that are read.
        wanted: &'static str,
    },
    /// A tensor has more or fewer dimensions than its use asks for.
    #[error("{path}: tensor {name} has the dimensions {found:?}; expected {wanted} of them")]
    TensorShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its dimensions, the fastest first.
        found: Vec<u64>,
        /// How many were expected.
        wanted: usize,
    },
}

/// What is wrong with the bytes of a GGUF file.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named and shown in the messages")]
pub enum Fault {
    /// Another kind of file.
    #[error("it begins with \"{}\", not with \"GGUF\"", .found.escape_ascii())]
    Magic { found: Vec<u8> },
    /// A version of the format that is not read.
    #[error("GGUF version {found} is not read, only 2 and 3")]
    Version { found: u32 },
    /// Version 2 or 3 with its bytes the other way round.
    #[error("it is big-endian; only little-endian files are read")]
    BigEndian,
    /// Something is longer than what is left of the file.
    #[error("the {what} at byte {at} needs {needed} bytes or more, the file has {left} left")]
    Short { what: &'static str, at: u64, needed: u128, left: u64 },
    /// Text that is not UTF-8.
    #[error("the {what} at byte {at} is not UTF-8")]
    Text { what: &'static str, at: u64 },
    /// A truth value that is neither 0 nor 1.
    #[error("the bool at byte {at} is {found}, expected 0 or 1")]
    Bool { at: u64, found: u8 },
    /// A value of an unknown type, whose length is therefore unknown.
    #[error("the value type at byte {at} is {found}, expected 0 to 12")]
    ValueType { at: u64, found: u32 },
    /// Arrays of arrays of arrays...
    #[error("the array at byte {at} is nested more than {limit} deep")]
    Nesting { at: u64, limit: usize },
    /// Two metadata values or tensors of one name.
    #[error("{what} {name:?} appears twice")]
    Duplicate { what: &'static str, name: String },
    /// Alignments are powers of two.
    #[error("general.alignment is {found}, expected a power of two up to 2^31")]
    Alignment { found: String },
    /// More dimensions than GGUF has.
    #[error("tensor {name:?} has {found} dimensions, expected {limit} at most")]
    Dimensions { name: String, found: u32, limit: usize },
    /// Dimensions whose product is beyond any machine.
    #[error("tensor {name:?} of dimensions {shape:?} is too large to address")]
    Huge { name: String, shape: Vec<u64> },
    /// A row that ends within a quantisation block.
    #[error("tensor {name:?} has rows of {columns} elements, no multiple of {type_name}'s {block}")]
    Blocks { name: String, columns: u64, type_name: &'static str, block: usize },
    /// A tensor that does not begin on the file's alignment.
    #[error("tensor {name:?} begins at {offset}, no multiple of the alignment {alignment}")]
    Unaligned { name: String, offset: u64, alignment: u64 },
    /// A tensor that reaches beyond the end of the file.
    #[error("tensor {name:?} ends at byte {end}, the file at byte {file}")]
    Outside { name: String, end: u128, file: u64 },
}
