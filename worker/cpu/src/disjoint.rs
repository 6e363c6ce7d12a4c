//! Memory that several threads write at the same time, each its own elements.

use std::{marker::PhantomData, ops::Range};

/// A slice that threads share while each writes a part that no other touches.
pub(crate) struct Disjoint<'a, T> {
    first: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: access goes through methods whose callers promise that no two threads touch one element.
unsafe impl<T: Send + Sync> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { first: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// Nobody else touches these elements while the result lives.
    #[allow(clippy::mut_from_ref, reason = "that the parts are disjoint is the point of the type")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part within the slice");
        // SAFETY: the range is inside the slice, and the caller has it alone.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }

    /// Where the elements of `range` begin. Reading and writing them is for the one who has them alone.
    pub(crate) fn pointer(&self, range: Range<usize>) -> *mut T {
        assert!(range.start <= range.end && range.end <= self.len, "part within the slice");
        // SAFETY: the range is inside the slice.
        unsafe { self.first.add(range.start) }
    }

    /// All elements.
    ///
    /// # Safety
    /// Nobody writes any of them while the result lives.
    pub(crate) unsafe fn all(&self) -> &[T] {
        // SAFETY: it is the whole slice, and the caller vouches for the rest.
        unsafe { std::slice::from_raw_parts(self.first, self.len) }
    }

    /// Writes one element.
    ///
    /// # Safety
    /// Nobody else touches this element.
    pub(crate) unsafe fn set(&self, at: usize, value: T) {
        assert!(at < self.len, "element within the slice");
        // SAFETY: the element is inside the slice, and the caller has it alone.
        unsafe { self.first.add(at).write(value) };
    }
}

impl<'a> Disjoint<'a, f32> {
    /// A rectangle of a row-major matrix with rows of `stride` elements: `rows` rows of `columns`
    /// elements, the first of which is `first`.
    ///
    /// # Safety
    /// Nobody else touches these elements while the result lives.
    pub(crate) unsafe fn rectangle(
        &self,
        first: usize,
        rows: usize,
        columns: usize,
        stride: usize,
    ) -> Rectangle<'a> {
        Rectangle::check(self.len, first, rows, columns, stride);
        // SAFETY: the rectangle was found to be inside the slice.
        let first = unsafe { self.first.add(first) };
        Rectangle { first, rows, columns, stride, elements: PhantomData }
    }
}

/// A rectangle of a row-major matrix that one thread writes.
pub(crate) struct Rectangle<'a> {
    first: *mut f32,
    rows: usize,
    columns: usize,
    stride: usize,
    elements: PhantomData<&'a mut [f32]>,
}

impl<'a> Rectangle<'a> {
    /// The first `columns` elements of the first `rows` rows of a matrix with rows of `stride`.
    pub(crate) fn new(matrix: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        Self::check(matrix.len(), 0, rows, columns, stride);
        Self { first: matrix.as_mut_ptr(), rows, columns, stride, elements: PhantomData }
    }

    fn check(len: usize, first: usize, rows: usize, columns: usize, stride: usize) {
        let end = if rows == 0 { first } else { first + (rows - 1) * stride + columns };
        assert!(end <= len && (rows <= 1 || columns <= stride), "rectangle within the matrix");
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Some columns of some rows.
    pub(crate) fn part(&mut self, rows: Range<usize>, columns: Range<usize>) -> Rectangle<'_> {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows within the rectangle");
        assert!(
            columns.start <= columns.end && columns.end <= self.columns,
            "columns within the rectangle"
        );
        // Wrapping, since nothing follows the last row, if there is one.
        let first = self.first.wrapping_add(rows.start * self.stride + columns.start);
        Rectangle {
            first,
            rows: rows.len(),
            columns: columns.len(),
            stride: self.stride,
            elements: PhantomData,
        }
    }

    /// Where its first row begins, and elements from there to the next one. They are this value's alone,
    /// as far as its columns reach.
    pub(crate) fn raw(&mut self) -> (*mut f32, usize) {
        (self.first, self.stride)
    }

    /// One row of it.
    pub(crate) fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.rows, "row within the rectangle");
        // SAFETY: the constructor checked the rectangle, whose elements are this value's alone.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(row * self.stride), self.columns) }
    }
}
