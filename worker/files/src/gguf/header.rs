//! The header: what the file says about itself, and where its tensors lie.

use std::{
    collections::{BTreeMap, HashMap, btree_map, hash_map},
    ops::Range,
};

use super::{cursor::Cursor, value::Value};
use crate::{Fault, TensorType};

const DEFAULT_ALIGNMENT: u32 = 32;
const MAX_DIMENSIONS: usize = 4;
/// A key of no letters, and one byte.
const LEAST_ENTRY: usize = 8 + 4 + 1;
/// A name of no letters, and no dimensions.
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

#[derive(Debug)]
pub(super) struct Header {
    pub(super) metadata: HashMap<String, Value>,
    pub(super) tensors: BTreeMap<String, TensorInfo>,
}

/// A tensor's shape, type and place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dimensions, the one that lies along memory first: `[columns, rows]` of a matrix.
    pub shape: Vec<u64>,
    /// How it is stored.
    pub stored: StoredType,
    /// Its bytes in the file; empty if the type's size is not known.
    pub(super) range: Range<usize>,
}

/// How a tensor is stored: in a type that this crate reads, or in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// One that is read.
    Read(TensorType),
    /// ggml's number of one that is not.
    Unread(u32),
}

/// Reads and checks the header at the start of a whole file.
pub(super) fn read(file: &[u8]) -> Result<Header, Fault> {
    let mut cursor = Cursor::new(file);
    if !file.starts_with(b"GGUF") {
        return Err(Fault::Magic { found: file[..file.len().min(4)].to_vec() });
    }
    cursor.take(4, "magic")?;
    match cursor.u32()? {
        2 | 3 => {}
        found if matches!(found.swap_bytes(), 2 | 3) => return Err(Fault::BigEndian),
        found => return Err(Fault::Version { found }),
    }
    let tensor_count = cursor.u64()?;
    let entry_count = cursor.count("metadata", LEAST_ENTRY)?;
    cursor.room_for(tensor_count, "list of tensors", LEAST_TENSOR)?;

    let mut metadata = HashMap::new();
    for _ in 0..entry_count {
        let key = cursor.string("metadata key")?;
        let value = cursor.value()?;
        match metadata.entry(key) {
            hash_map::Entry::Vacant(vacant) => vacant.insert(value),
            hash_map::Entry::Occupied(taken) => {
                return Err(Fault::Duplicate { what: "metadata key", name: taken.key().clone() });
            }
        };
    }
    let alignment = u64::from(alignment(&metadata)?);

    let mut listed = Vec::new();
    for _ in 0..tensor_count {
        listed.push(Listed::read(&mut cursor)?);
    }
    let start = cursor.at().next_multiple_of(alignment);
    let mut tensors = BTreeMap::new();
    for tensor in listed {
        let info = tensor.locate(start, alignment, file.len())?;
        match tensors.entry(tensor.name) {
            btree_map::Entry::Vacant(vacant) => vacant.insert(info),
            btree_map::Entry::Occupied(taken) => {
                return Err(Fault::Duplicate { what: "tensor", name: taken.key().clone() });
            }
        };
    }
    Ok(Header { metadata, tensors })
}

fn alignment(metadata: &HashMap<String, Value>) -> Result<u32, Fault> {
    let Some(value) = metadata.get("general.alignment") else {
        return Ok(DEFAULT_ALIGNMENT);
    };
    value.integer().and_then(|n| u32::try_from(n).ok()).filter(|n| n.is_power_of_two()).ok_or_else(
        || Fault::Alignment {
            found: match value.integer() {
                Some(n) => n.to_string(),
                None => value.type_name().to_owned(),
            },
        },
    )
}

/// A tensor as the header lists it, before its place is checked.
struct Listed {
    name: String,
    shape: Vec<u64>,
    type_id: u32,
    offset: u64,
}

impl Listed {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, Fault> {
        let name = cursor.string("tensor name")?;
        let dimensions = cursor.u32()?;
        if dimensions as usize > MAX_DIMENSIONS {
            return Err(Fault::Dimensions { name, found: dimensions, limit: MAX_DIMENSIONS });
        }
        let shape = (0..dimensions).map(|_| cursor.u64()).collect::<Result<_, _>>()?;
        Ok(Self { name, shape, type_id: cursor.u32()?, offset: cursor.u64()? })
    }

    /// Checks that the tensor lies inside the file, whose tensors begin at `start`.
    fn locate(&self, start: u64, alignment: u64, file: usize) -> Result<TensorInfo, Fault> {
        let Self { name, shape, offset, .. } = self;
        let stored = StoredType::from_id(self.type_id);
        if offset % alignment != 0 {
            return Err(Fault::Unaligned { name: name.clone(), offset: *offset, alignment });
        }
        let bytes = match stored {
            StoredType::Read(tensor_type) => self.bytes(tensor_type)?,
            StoredType::Unread(_) => 0,
        };
        let first = u128::from(start) + u128::from(*offset);
        let end = first + bytes as u128;
        if end > file as u128 {
            return Err(Fault::Outside { name: name.clone(), end, file: file as u64 });
        }
        // Both fit: they are not beyond the end of the file.
        Ok(TensorInfo { shape: shape.clone(), stored, range: first as usize..end as usize })
    }

    fn bytes(&self, tensor_type: TensorType) -> Result<usize, Fault> {
        let block = tensor_type.block_len();
        let columns = self.shape.first().copied().unwrap_or(1);
        if columns % block as u64 != 0 {
            return Err(Fault::Blocks {
                name: self.name.clone(),
                columns,
                type_name: tensor_type.name(),
                block,
            });
        }
        // Zeroes count as ones, so that no single dimension is beyond what can be addressed either.
        let elements = self
            .shape
            .iter()
            .try_fold(1_usize, |product, &n| product.checked_mul(usize::try_from(n).ok()?.max(1)));
        let bytes = elements
            .and_then(|n| (n / block).checked_mul(tensor_type.block_bytes()))
            .ok_or_else(|| Fault::Huge { name: self.name.clone(), shape: self.shape.clone() })?;
        Ok(if self.shape.contains(&0) { 0 } else { bytes })
    }
}

impl StoredType {
    fn from_id(id: u32) -> Self {
        let read = TensorType::ALL.into_iter().find(|tensor_type| tensor_type.ggml_id() == id);
        read.map_or(Self::Unread(id), Self::Read)
    }

    /// ggml's name of the type.
    #[must_use]
    pub fn name(self) -> String {
        let id = match self {
            Self::Read(tensor_type) => return tensor_type.name().to_owned(),
            Self::Unread(id) => id,
        };
        let name = match id {
            9 => "Q8_1",
            10 => "Q2_K",
            11 => "Q3_K",
            15 => "Q8_K",
            16 => "IQ2_XXS",
            17 => "IQ2_XS",
            18 => "IQ3_XXS",
            19 => "IQ1_S",
            20 => "IQ4_NL",
            21 => "IQ3_S",
            22 => "IQ2_S",
            23 => "IQ4_XS",
            24 => "I8",
            25 => "I16",
            26 => "I32",
            27 => "I64",
            28 => "F64",
            29 => "IQ1_M",
            34 => "TQ1_0",
            35 => "TQ2_0",
            39 => "MXFP4",
            other => return format!("ggml type {other}"),
        };
        name.to_owned()
    }
}
