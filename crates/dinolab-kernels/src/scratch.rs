//! Reused memory: every step needs the same sizes, and a fresh page costs more than writing to it.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// The first `len` values of a vector, which is extended if it is shorter. Values are those from
/// before, or 0.
pub(crate) fn room(scratch: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if scratch.len() < len {
        scratch.resize(len, 0.0);
    }
    &mut scratch[..len]
}

thread_local! {
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// A vector of this thread, for the duration of a task. Values are arbitrary.
pub(crate) struct Scratch(Vec<f32>);

impl Scratch {
    /// A vector that is not in use.
    pub(crate) fn take() -> Self {
        Self(FREE.with_borrow_mut(Vec::pop).unwrap_or_default())
    }

    /// The vector itself, to be resized.
    pub(crate) fn vec(&mut self) -> &mut Vec<f32> {
        &mut self.0
    }

    /// Room for `len` values.
    pub(crate) fn room(&mut self, len: usize) -> &mut [f32] {
        room(&mut self.0, len)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let vec = std::mem::take(&mut self.0);
        FREE.with_borrow_mut(|free| free.push(vec));
    }
}

/// Memory of dropped buffers.
static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// Values on the heap, whose memory is reused by later buffers once they are dropped.
#[derive(Debug, Default)]
pub struct Buffer {
    values: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// Room for `len` values, which are arbitrary.
    pub(crate) fn new(len: usize) -> Self {
        let mut values = {
            let mut pool = POOL.lock().expect("no holder panics");
            // The smallest that is large enough, unless most of it would be unused.
            let best = (0..pool.len())
                .filter(|&i| pool[i].len() >= len && pool[i].len() / 2 <= len)
                .min_by_key(|&i| pool[i].len());
            best.map(|i| pool.swap_remove(i)).unwrap_or_default()
        };
        if values.len() < len {
            // In steps of an eighth, so that sizes which differ a little share their memory.
            let step = (len / 8).max(1).next_power_of_two();
            values = vec![0.0; len.next_multiple_of(step)];
        }
        Self { values, len }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let values = std::mem::take(&mut self.values);
        if !values.is_empty() {
            POOL.lock().expect("no holder panics").push(values);
        }
    }
}

/// Makes the C library's allocator keep large blocks for later requests instead of returning them
/// to the system each time, which costs a page fault per 4 KiB. Does nothing with other
/// allocators. To be called before threads start.
pub fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: sets two parameters of the allocator, as its manual allows at any time.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 30);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_used_again() {
        let first = Buffer::new(1_000_003);
        let place = first.as_ptr();
        drop(first);
        let again = Buffer::new(1_000_001);
        assert_eq!(again.as_ptr(), place);
        assert_eq!(again.len(), 1_000_001);
        let small = Buffer::new(10);
        assert_ne!(small.as_ptr(), place);
    }

    #[test]
    fn scratch_of_nested_tasks_is_distinct() {
        let (mut outer, mut inner) = (Scratch::take(), Scratch::take());
        outer.room(4).fill(1.0);
        inner.room(4).fill(2.0);
        assert_eq!(outer.room(4), [1.0; 4]);
    }
}
