use std::{error::Error, io::Write};

use proptest::prelude::*;
use tempfile::NamedTempFile;

use super::*;
use crate::{Fault, TensorType, testing::GgufBuilder};

fn file(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn open(builder: &GgufBuilder) -> Gguf {
    Gguf::open(file(&builder.bytes()).path()).unwrap()
}

fn fault(bytes: &[u8]) -> Fault {
    match Gguf::open(file(bytes).path()) {
        Err(FileError::Damaged { fault, .. }) => fault,
        other => panic!("expected a damaged file, got {other:?}"),
    }
}

/// One value of every type, and tensors of every type that is read.
fn small() -> GgufBuilder {
    GgufBuilder::new()
        .string("name", "small é")
        .value("u8", Value::U8(200))
        .value("i8", Value::I8(-1))
        .value("u16", Value::U16(60_000))
        .value("i16", Value::I16(7))
        .value("u32", Value::U32(u32::MAX))
        .value("i32", Value::I32(11))
        .value("u64", Value::U64(1 << 32))
        .value("i64", Value::I64(13))
        .value("f32", Value::F32(0.5))
        .value("f64", Value::F64(0.25))
        .value("bool", Value::Bool(true))
        .strings("words", ["a", "bc", ""])
        .value("i32s", Value::Array(Array::I32(vec![1, 2, 3])))
        .value("u8s", Value::Array(Array::U8(vec![4, 5])))
        .value("bools", Value::Array(Array::Bool(vec![true, false])))
        .value("i64s", Value::Array(Array::I64(vec![-1])))
        .value("nested", Value::Array(Array::Array(vec![Array::F64(vec![1.0])])))
        .tensor("gain", &[2], TensorType::F32, &[0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0])
        .tensor("half_gain", &[1], TensorType::F16, &[0x00, 0x3c])
        .tensor("wide", &[32, 3], TensorType::Q4_1, &[7; 60])
        .tensor("table", &[64, 2], TensorType::Q8_0, &[9; 136])
        .tensor("cube", &[1, 1, 1], TensorType::F32, &[0; 4])
        .tensor("super", &[256, 1], TensorType::Q6_K, &[3; 210])
        .tensor_of("unread", &[256], 10, &[1; 84])
}

/// A header alone: version, counts, and what follows.
fn header(version: u32, tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    let mut bytes = b"GGUF".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend(tensors.to_le_bytes());
    bytes.extend(entries.to_le_bytes());
    bytes.extend(rest);
    bytes
}

/// A metadata entry "k" of `type_id` with the bytes of its value.
fn entry(type_id: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = 1_u64.to_le_bytes().to_vec();
    bytes.push(b'k');
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(value);
    bytes
}

/// A listed tensor "t".
fn listed(shape: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = 1_u64.to_le_bytes().to_vec();
    bytes.push(b't');
    bytes.extend((shape.len() as u32).to_le_bytes());
    shape.iter().for_each(|n| bytes.extend(n.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn every_value_is_read_as_it_was_written() {
    let file = open(&small());
    assert_eq!(file.require_str("name").unwrap(), "small é");
    for (key, number) in [("u8", 200), ("u16", 60_000), ("i16", 7), ("u32", u32::MAX)] {
        assert_eq!(file.require_u32(key).unwrap(), number, "{key}");
    }
    assert_eq!(file.optional_u32("i32").unwrap(), Some(11));
    assert_eq!(file.optional_u32("i64").unwrap(), Some(13));
    assert_eq!(file.metadata("u64"), Some(&Value::U64(1 << 32)));
    assert_eq!(file.require_f32("f32").unwrap(), 0.5);
    assert_eq!(file.optional_f32("f64").unwrap(), Some(0.25));
    assert_eq!(file.optional_bool("bool").unwrap(), Some(true));
    assert_eq!(file.require_strings("words").unwrap(), ["a", "bc", ""]);
    assert_eq!(file.optional_u32s("i32s").unwrap(), Some(vec![1, 2, 3]));
    assert_eq!(file.optional_u32s("u8s").unwrap(), Some(vec![4, 5]));
    let bools = Value::Array(Array::Bool(vec![true, false]));
    assert_eq!(file.metadata("bools"), Some(&bools));
    let nested = Value::Array(Array::Array(vec![Array::F64(vec![1.0])]));
    assert_eq!(file.metadata("nested"), Some(&nested));
}

#[test]
fn absent_keys_and_wrong_types_are_told_apart() {
    let file = open(&small());
    assert_eq!(file.optional_u32("none").unwrap(), None);
    assert_eq!(file.optional_u32s("none").unwrap(), None);
    assert_eq!(file.optional_f32("none").unwrap(), None);
    assert_eq!(file.optional_str("none").unwrap(), None);
    assert_eq!(file.optional_bool("none").unwrap(), None);
    let path = file.path().display().to_string();
    let says = |result: Result<(), FileError>, text: &str| {
        assert_eq!(result.unwrap_err().to_string(), format!("{path}{text}"));
    };
    says(file.require_u32("none").map(drop), " has no none");
    says(file.require_f32("none").map(drop), " has no none");
    says(file.require_str("none").map(drop), " has no none");
    says(file.require_strings("none").map(drop), " has no none");
    says(file.require_u32("f32").map(drop), ": f32 is an f32, expected an integer");
    says(file.optional_u32("u64").map(drop), ": u64 is 4294967296, expected 0 to 4294967295");
    says(file.optional_u32("i8").map(drop), ": i8 is -1, expected 0 to 4294967295");
    says(file.optional_u32s("i64s").map(drop), ": i64s is -1, expected 0 to 4294967295");
    says(file.optional_u32s("u8").map(drop), ": u8 is a u8, expected an array of integers");
    says(
        file.optional_u32s("words").map(drop),
        ": words is an array of strings, expected an array of integers",
    );
    says(file.optional_f32("i32").map(drop), ": i32 is an i32, expected a float");
    says(file.optional_str("u64").map(drop), ": u64 is a u64, expected a string");
    says(file.optional_bool("u8").map(drop), ": u8 is a u8, expected a bool");
    says(
        file.require_strings("i32s").map(drop),
        ": i32s is an array of i32, expected an array of strings",
    );
}

#[test]
fn tensors_are_views_of_their_bytes() {
    let file = open(&small());
    assert_eq!(file.vector("gain").unwrap(), [1.0, -2.0]);
    assert_eq!(file.vector("half_gain").unwrap(), [1.0]);
    let wide = file.matrix("wide").unwrap();
    assert_eq!((wide.rows(), wide.columns()), (3, 32));
    assert_eq!(wide.row(2), [7; 20]);
    let table = file.matrix("table").unwrap();
    assert_eq!((table.rows(), table.columns()), (2, 64));
    assert_eq!(table.row(1), [9; 68]);
    assert!(file.has_tensor("table") && !file.has_tensor("none"));
    let names: Vec<&str> = file.tensors().map(|(name, _)| name).collect();
    assert_eq!(names, ["cube", "gain", "half_gain", "super", "table", "unread", "wide"]);
}

#[test]
fn a_tensor_that_cannot_be_had_says_why() {
    let file = open(&small());
    let path = file.path().display().to_string();
    let says =
        |error: FileError, text: &str| assert_eq!(error.to_string(), format!("{path}{text}"));
    says(file.matrix("none").unwrap_err(), " has no tensor none");
    says(
        file.matrix("gain").unwrap_err(),
        ": tensor gain has the dimensions [2]; expected 2 of them",
    );
    says(
        file.vector("wide").unwrap_err(),
        ": tensor wide has the dimensions [32, 3]; expected 1 of them",
    );
    says(
        file.vector("unread").unwrap_err(),
        ": tensor unread is stored as Q2_K; expected F32, F16 or BF16",
    );
    let file = open(&GgufBuilder::new().tensor_of("new", &[1, 1], 99, &[]));
    let error = file.matrix("new").unwrap_err().to_string();
    let types = TensorType::ALL.map(TensorType::name);
    let wanted = format!("{} or {}", types[..10].join(", "), types[10]);
    let says = format!(": tensor new is stored as ggml type 99; expected {wanted}");
    assert!(error.ends_with(&says), "{error}");
}

#[test]
fn alignment_is_the_files_own() {
    let aligned = |n| {
        GgufBuilder::new()
            .value("general.alignment", Value::U32(n))
            .tensor("a", &[1], TensorType::F32, &1_f32.to_le_bytes())
            .tensor("b", &[1], TensorType::F32, &2_f32.to_le_bytes())
    };
    for n in [1, 8, 256] {
        let file = open(&aligned(n));
        assert_eq!(file.vector("b").unwrap(), [2.0], "{n}");
    }
    for n in [0, 3, 96] {
        assert_eq!(fault(&aligned(n).bytes()), Fault::Alignment { found: n.to_string() });
    }
    let text = GgufBuilder::new().string("general.alignment", "wide").bytes();
    assert_eq!(fault(&text), Fault::Alignment { found: "a string".to_owned() });
}

#[test]
fn other_files_are_refused() {
    assert_eq!(
        fault(b"PK\x03\x04 a zip file").to_string(),
        "it begins with \"PK\\x03\\x04\", not with \"GGUF\""
    );
    assert_eq!(fault(b""), Fault::Magic { found: vec![] });
    assert_eq!(fault(&header(1, 0, 0, &[])), Fault::Version { found: 1 });
    assert_eq!(fault(&header(3 << 24, 0, 0, &[])), Fault::BigEndian);
    assert!(Gguf::open(file(&header(2, 0, 0, &[])).path()).is_ok());

    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Gguf::open(folder.path()), Err(FileError::NotAFile { .. })));
    let absent = Gguf::open(&folder.path().join("absent.gguf")).unwrap_err();
    assert!(absent.to_string().ends_with("absent.gguf") && absent.source().is_some());
}

#[test]
fn claims_beyond_the_file_are_refused_before_memory_is_taken() {
    assert_eq!(
        fault(&header(3, 1 << 60, 0, &[0; 8])).to_string(),
        "the list of tensors at byte 24 needs 27670116110564327424 bytes or more, \
         the file has 8 left"
    );
    let short = |bytes: &[u8], what: &str| match fault(bytes) {
        Fault::Short { what: found, .. } => assert_eq!(found, what),
        other => panic!("expected a short {what}, got {other:?}"),
    };
    short(&header(3, 0, u64::MAX, &[]), "metadata");
    short(&header(3, 0, 1, &[0xff; 13]), "metadata key");
    short(&header(3, 0, 1, &entry(8, &(1_u64 << 50).to_le_bytes())), "string");
    for element in 0..13_u32 {
        let mut array = element.to_le_bytes().to_vec();
        array.extend(u64::MAX.to_le_bytes());
        short(&header(3, 0, 1, &entry(9, &array)), "array");
    }
    short(&header(3, 0, 1, &entry(5, &[0, 0])), "number");
}

#[test]
fn malformed_values_are_refused() {
    assert_eq!(
        fault(&header(3, 0, 1, &entry(13, &[0; 8]))),
        Fault::ValueType { at: 33, found: 13 }
    );
    assert_eq!(fault(&header(3, 0, 1, &entry(7, &[2]))), Fault::Bool { at: 37, found: 2 });
    let not_utf8 = [2, 0, 0, 0, 0, 0, 0, 0, b'a', 0xff];
    assert_eq!(
        fault(&header(3, 0, 1, &entry(8, &not_utf8))),
        Fault::Text { what: "string", at: 45 }
    );
    let mut nested = Vec::new();
    for _ in 0..100 {
        nested.extend(9_u32.to_le_bytes());
        nested.extend(1_u64.to_le_bytes());
    }
    assert!(matches!(fault(&header(3, 0, 1, &entry(9, &nested))), Fault::Nesting { limit: 4, .. }));
    let twice = GgufBuilder::new().string("k", "a").string("k", "b").bytes();
    assert_eq!(fault(&twice), Fault::Duplicate { what: "metadata key", name: "k".to_owned() });
}

#[test]
fn tensors_lie_inside_the_file() {
    let name = || "t".to_owned();
    let one = |shape: &[u64], type_id, offset| header(3, 1, 0, &listed(shape, type_id, offset));
    // The header is 24 + 9 + 4 + 8 + 4 + 8 = 57 bytes, so data begins at 64.
    assert_eq!(fault(&one(&[1], 0, 0)), Fault::Outside { name: name(), end: 68, file: 57 });
    assert_eq!(
        fault(&one(&[1], 10, u64::MAX - 31)),
        Fault::Outside { name: name(), end: (1 << 64) + 32, file: 57 }
    );
    assert_eq!(
        fault(&one(&[1], 0, 4)),
        Fault::Unaligned { name: name(), offset: 4, alignment: 32 }
    );
    assert_eq!(
        fault(&one(&[1, 1, 1, 1, 1], 0, 0)),
        Fault::Dimensions { name: name(), found: 5, limit: 4 }
    );
    assert_eq!(
        fault(&one(&[48, 1], 8, 0)),
        Fault::Blocks { name: name(), columns: 48, type_name: "Q8_0", block: 32 }
    );
    assert_eq!(
        fault(&one(&[32, 1], 12, 0)),
        Fault::Blocks { name: name(), columns: 32, type_name: "Q4_K", block: 256 }
    );
    for shape in [[1 << 32, 1 << 32], [0, u64::MAX], [u64::MAX, 0], [1 << 62, 1]] {
        assert_eq!(fault(&one(&shape, 0, 0)), Fault::Huge { name: name(), shape: shape.to_vec() });
    }
    let twice = GgufBuilder::new()
        .tensor("t", &[1], TensorType::F32, &[0; 4])
        .tensor("t", &[1], TensorType::F32, &[0; 4])
        .bytes();
    assert_eq!(fault(&twice), Fault::Duplicate { what: "tensor", name: name() });
}

#[test]
fn a_vocabulary_without_tensors_may_end_with_its_header() {
    let bytes = GgufBuilder::new().string("k", "v").bytes();
    let header = 24 + 9 + 4 + 9;
    assert!(Gguf::open(file(&bytes[..header]).path()).is_ok());
}

/// Everything that a caller can ask of a file.
fn read_all(file: &Gguf) {
    for (name, info) in file.tensors() {
        let _ = info.stored.name();
        let _ = file.vector(name);
        if let Ok(matrix) = file.matrix(name) {
            for row in 0..matrix.rows().min(4) {
                matrix.dequantise_row(row, &mut vec![0.0; matrix.columns()]);
            }
        }
    }
    let _ = (file.optional_u32("u32"), file.optional_u32s("i32s"), file.require_strings("words"));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(
        cut in 0..2048_usize,
        // Small numbers are what counts, types and lengths are made of.
        changes in prop::collection::vec((0..1200_usize, prop_oneof![0..16_u8, any::<u8>()]), 0..8),
    ) {
        let mut bytes = small().bytes();
        for (at, byte) in changes {
            let len = bytes.len();
            bytes[at % len] = byte;
        }
        bytes.truncate(cut.max(4));
        match Gguf::open(file(&bytes).path()) {
            Ok(file) => read_all(&file),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn no_header_makes_it_panic(
        rest in prop::collection::vec(any::<u8>(), 0..200),
        counts: [u8; 2],
    ) {
        let bytes = header(3, counts[0].into(), counts[1].into(), &rest);
        if let Ok(file) = Gguf::open(file(&bytes).path()) {
            read_all(&file);
        }
    }
}
