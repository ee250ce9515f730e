//! Vectors filled by parallel tasks, each of which writes a part that depends on the sizes alone.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use rayon::prelude::*;

/// A vector whose values have not been written yet.
pub(crate) struct Output {
    values: Vec<f32>,
    len: usize,
}

impl Output {
    /// Room for `len` values.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            values: Vec::with_capacity(len),
            len,
        }
    }

    /// Access for parallel tasks.
    pub(crate) fn parts(&mut self) -> Parts<'_> {
        Parts {
            start: self.values.as_mut_ptr(),
            len: self.len,
            buffer: PhantomData,
        }
    }

    /// The finished vector.
    ///
    /// # Safety
    /// Every value has been written.
    pub(crate) unsafe fn finish(mut self) -> Vec<f32> {
        // SAFETY: the capacity is `len`, and the caller vouches for the values.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}

/// Access to parts of one buffer from many tasks, for as long as the buffer is borrowed.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    start: *mut f32,
    len: usize,
    buffer: PhantomData<&'a mut [f32]>,
}
// SAFETY: an exclusive borrow of plain numbers, which may move to another thread; that its copies
// reach different parts is what the unsafe methods ask of the caller.
unsafe impl Send for Parts<'_> {}
// SAFETY: as above.
unsafe impl Sync for Parts<'_> {}

impl<'a> Parts<'a> {
    /// Parts of a slice, all of which has been written.
    pub(crate) fn of(values: &'a mut [f32]) -> Self {
        Self {
            start: values.as_mut_ptr(),
            len: values.len(),
            buffer: PhantomData,
        }
    }

    /// The place of the value at `offset`; panics unless `needed` values lie there.
    pub(crate) fn at(self, offset: usize, needed: usize) -> *mut f32 {
        assert!(
            offset
                .checked_add(needed)
                .is_some_and(|end| end <= self.len),
            "inside the vector"
        );
        // SAFETY: the offset is inside of the allocation.
        unsafe { self.start.add(offset) }
    }

    /// The values of `range`, which have been written before.
    ///
    /// # Safety
    /// They are initialised, and nothing else reaches them while the slice lives.
    pub(crate) unsafe fn written(self, range: Range<usize>) -> &'a mut [f32] {
        let start = self.at(range.start, range.len());
        // SAFETY: inside the allocation by `at`; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start, range.len()) }
    }

    /// The values of `range`, which need not have been written before.
    ///
    /// # Safety
    /// Nothing else reaches them while the slice lives.
    pub(crate) unsafe fn unwritten(self, range: Range<usize>) -> &'a mut [MaybeUninit<f32>] {
        let start = self.at(range.start, range.len());
        // SAFETY: inside the allocation by `at`; the rest is the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(start.cast(), range.len()) }
    }

    /// The values of `range`, set to 0.
    ///
    /// # Safety
    /// Nothing else reaches them while the slice lives.
    pub(crate) unsafe fn zeroed(self, range: Range<usize>) -> &'a mut [f32] {
        let start = self.at(range.start, range.len());
        // SAFETY: inside the allocation by `at`; zeros are valid values, written before the
        // slice is made; disjointness is the caller's promise.
        unsafe {
            std::ptr::write_bytes(start, 0, range.len());
            std::slice::from_raw_parts_mut(start, range.len())
        }
    }
}

/// Runs `task` for blocks of `step` of `rows` rows; returns the results in order.
pub(crate) fn map_blocks<R: Send>(
    rows: usize,
    step: usize,
    task: impl Fn(Range<usize>) -> R + Sync,
) -> Vec<R> {
    (0..rows.div_ceil(step))
        .into_par_iter()
        .with_max_len(1)
        .map(|i| task(i * step..rows.min((i + 1) * step)))
        .collect()
}

/// Cuts `rows` into tasks of `step` rows. Each task gets its range of rows and, for every
/// width, its rows of a new vector (zeros, still in cache). Returns the vectors and what
/// the tasks returned, in order.
pub(crate) fn by_rows<const N: usize, R: Send>(
    rows: usize,
    step: usize,
    widths: [usize; N],
    task: impl Fn(Range<usize>, [&mut [f32]; N]) -> R + Sync,
) -> ([Vec<f32>; N], Vec<R>) {
    let mut outputs = widths.map(|width| Output::new(rows * width));
    let parts = outputs.each_mut().map(Output::parts);
    let returned = map_blocks(rows, step, |range| {
        let slices = std::array::from_fn(|j| {
            let width = widths[j];
            // SAFETY: tasks have disjoint rows.
            unsafe { parts[j].zeroed(range.start * width..range.end * width) }
        });
        task(range, slices)
    });
    // SAFETY: the tasks cover all rows, and each part was zeroed at least.
    (outputs.map(|output| unsafe { output.finish() }), returned)
}

/// The sum of vectors of equal length, added in their order.
pub(crate) fn ordered_sum(len: usize, parts: impl IntoIterator<Item = Vec<f32>>) -> Vec<f32> {
    let mut parts = parts.into_iter();
    let mut sum = parts.next().unwrap_or_else(|| vec![0.0; len]);
    for part in parts {
        crate::simd::add_to(&mut sum, &part);
    }
    sum
}

/// Rows per task for rows of `width` values, of which little is computed: about 128 KiB.
pub(crate) fn light_step(width: usize) -> usize {
    (under_miri(64, 32_768) / width.max(1)).max(1)
}

/// `small` under Miri, which is so slow that sizes with several tasks and parts have to be small.
pub(crate) const fn under_miri(small: usize, normal: usize) -> usize {
    if cfg!(miri) { small } else { normal }
}
