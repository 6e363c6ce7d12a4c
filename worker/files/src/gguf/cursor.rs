//! Reading a header from its first byte to its last. Every length is compared with what is left of
//! the file before anything is allocated for it.

use super::value::{Array, Value};
use crate::Fault;

/// How deep arrays may be nested. Files in use go one deep.
const MAX_NESTING: usize = 4;

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes have been read.
    pub(super) fn at(&self) -> u64 {
        self.at as u64
    }

    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8], Fault> {
        let rest = &self.bytes[self.at..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or_else(|| self.short(what, count.into()))?;
        self.at += taken.len();
        Ok(taken)
    }

    fn short(&self, what: &'static str, needed: u128) -> Fault {
        Fault::Short { what, at: self.at(), needed, left: (self.bytes.len() - self.at) as u64 }
    }

    fn number<T, const N: usize>(&mut self, from_le: fn([u8; N]) -> T) -> Result<T, Fault> {
        let bytes = self.take(N as u64, "number")?;
        Ok(from_le(bytes.try_into().expect("take gives as many bytes as asked")))
    }

    pub(super) fn u32(&mut self) -> Result<u32, Fault> {
        self.number(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Fault> {
        self.number(u64::from_le_bytes)
    }

    /// A count of things of at least `least` bytes each, which the rest of the file can hold.
    pub(super) fn count(&mut self, what: &'static str, least: usize) -> Result<usize, Fault> {
        let count = self.u64()?;
        self.room_for(count, what, least)
    }

    /// `count`, if the rest of the file can hold as many things of at least `least` bytes.
    pub(super) fn room_for(
        &self,
        count: u64,
        what: &'static str,
        least: usize,
    ) -> Result<usize, Fault> {
        let needed = u128::from(count) * least as u128;
        if needed > (self.bytes.len() - self.at) as u128 {
            return Err(self.short(what, needed));
        }
        Ok(usize::try_from(count).expect("no more things than bytes in a mapped file"))
    }

    pub(super) fn string(&mut self, what: &'static str) -> Result<String, Fault> {
        let length = self.u64()?;
        let at = self.at();
        // Copied, then checked: another process may be writing to the mapping.
        let bytes = self.take(length, what)?.to_vec();
        String::from_utf8(bytes).map_err(|_| Fault::Text { what, at })
    }

    fn bool(&mut self) -> Result<bool, Fault> {
        let at = self.at();
        match self.number(u8::from_le_bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            found => Err(Fault::Bool { at, found }),
        }
    }

    /// A type's number, then a value of that type.
    pub(super) fn value(&mut self) -> Result<Value, Fault> {
        let at = self.at();
        Ok(match self.u32()? {
            0 => Value::U8(self.number(u8::from_le_bytes)?),
            1 => Value::I8(self.number(i8::from_le_bytes)?),
            2 => Value::U16(self.number(u16::from_le_bytes)?),
            3 => Value::I16(self.number(i16::from_le_bytes)?),
            4 => Value::U32(self.number(u32::from_le_bytes)?),
            5 => Value::I32(self.number(i32::from_le_bytes)?),
            6 => Value::F32(self.number(f32::from_le_bytes)?),
            7 => Value::Bool(self.bool()?),
            8 => Value::String(self.string("string")?),
            9 => Value::Array(self.array(1)?),
            10 => Value::U64(self.number(u64::from_le_bytes)?),
            11 => Value::I64(self.number(i64::from_le_bytes)?),
            12 => Value::F64(self.number(f64::from_le_bytes)?),
            found => return Err(Fault::ValueType { at, found }),
        })
    }

    /// The type of an array's elements, their count, and they themselves.
    fn array(&mut self, depth: usize) -> Result<Array, Fault> {
        let at = self.at();
        if depth > MAX_NESTING {
            return Err(Fault::Nesting { at, limit: MAX_NESTING });
        }
        let element_type = self.u32()?;
        Ok(match element_type {
            0 => Array::U8(self.numbers(u8::from_le_bytes)?),
            1 => Array::I8(self.numbers(i8::from_le_bytes)?),
            2 => Array::U16(self.numbers(u16::from_le_bytes)?),
            3 => Array::I16(self.numbers(i16::from_le_bytes)?),
            4 => Array::U32(self.numbers(u32::from_le_bytes)?),
            5 => Array::I32(self.numbers(i32::from_le_bytes)?),
            6 => Array::F32(self.numbers(f32::from_le_bytes)?),
            7 => Array::Bool(self.list(1, Self::bool)?),
            8 => Array::String(self.list(8, |cursor| cursor.string("string"))?),
            9 => Array::Array(self.list(12, |cursor| cursor.array(depth + 1))?),
            10 => Array::U64(self.numbers(u64::from_le_bytes)?),
            11 => Array::I64(self.numbers(i64::from_le_bytes)?),
            12 => Array::F64(self.numbers(f64::from_le_bytes)?),
            found => return Err(Fault::ValueType { at, found }),
        })
    }

    fn numbers<T, const N: usize>(&mut self, from_le: fn([u8; N]) -> T) -> Result<Vec<T>, Fault> {
        let count = self.count("array", N)?;
        let bytes = self.take((count * N) as u64, "array")?;
        let (chunks, _) = bytes.as_chunks::<N>();
        Ok(chunks.iter().map(|&chunk| from_le(chunk)).collect())
    }

    fn list<T>(
        &mut self,
        least: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, Fault>,
    ) -> Result<Vec<T>, Fault> {
        let count = self.count("array", least)?;
        (0..count).map(|_| element(self)).collect()
    }
}
