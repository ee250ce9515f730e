//! Making views takes no memory once the buffers are there.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use dinolab_data::Image;
use dinolab_data::augment::{MultiCrop, Scratch};

/// The system's allocator, counting.
struct Counting;

static TAKEN: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        TAKEN.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.realloc(memory, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn views_take_no_memory_once_warm() {
    let mut image = Image::new(250, 190, 3);
    for (place, value) in image.data.iter_mut().enumerate() {
        *value = (place * 37 % 251) as u8;
    }
    let crops = MultiCrop::default();
    let mut scratch = Scratch::default();
    let mut global = vec![0.0; crops.global_len()];
    let mut local = vec![0.0; crops.local_len()];
    let mut make = |keys: std::ops::Range<u64>| {
        let before = TAKEN.load(Ordering::Relaxed);
        for key in keys {
            crops
                .apply(&image, 0, 0, key, &mut scratch, &mut global, &mut local)
                .unwrap();
        }
        TAKEN.load(Ordering::Relaxed) - before
    };
    // The first images bring the largest crops; the same again must find all buffers there.
    assert!(make(0..40) > 0, "the allocator counts");
    assert_eq!(make(0..40), 0);
}
