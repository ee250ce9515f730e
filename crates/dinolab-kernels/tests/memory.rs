//! How much memory the loss takes at the published number of prototypes. One test, because the
//! count is the whole process's.

#[allow(dead_code, reason = "the suite uses the rest")]
#[path = "suite/common/mod.rs"]
mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use common::numbers;
use dinolab_kernels::{LossShape, dino_loss, softmax_rows};

/// Counts what is held and the most that was.
struct Counting;

static HELD: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: hands everything to the system's allocator and counts beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let held = HELD.fetch_add(layout.size(), Relaxed) + layout.size();
        MOST.fetch_max(held, Relaxed);
        // SAFETY: the caller's promises are the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
#[cfg_attr(miri, ignore = "too slow")]
fn the_loss_holds_logits_and_gradient_and_little_else() {
    let shape = LossShape {
        batch: 2,
        views: 10,
        prototypes: 65_536,
    };
    let k = shape.prototypes;
    let student = numbers(1, shape.views * shape.batch * k);
    let teacher = numbers(2, 2 * shape.batch * k);
    let centre = vec![0.0; k];
    let logits = size_of_val(&student[..]);
    MOST.store(HELD.load(Relaxed), Relaxed);
    let targets = softmax_rows(&teacher, &centre, 1.0 / 0.04);
    let (loss, gradient) = dino_loss(&student, &targets, shape, 0.1);
    let most = MOST.load(Relaxed);
    assert!(loss.is_finite() && gradient.len() == student.len());
    // Logits of both networks, targets, gradient: 2.4 times the student's logits.
    assert!(most < logits * 5 / 2, "{most} bytes for {logits} of logits");
    assert!(most > 2 * logits, "the count is at work");
}
