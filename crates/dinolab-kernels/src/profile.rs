//! The time spent in matrix multiplications, for benchmarks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// Time and operations of the matrix multiplications since [`start`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Time within products, summed over all threads; packing of weights is not included.
    pub products: Duration,
    /// Their multiplications and additions.
    pub operations: u64,
}

/// Starts measuring, at the cost of two readings of the clock per product.
pub fn start() {
    NANOSECONDS.store(0, Relaxed);
    OPERATIONS.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// Stops measuring and returns the result.
pub fn stop() -> Profile {
    ON.store(false, Relaxed);
    Profile {
        products: Duration::from_nanos(NANOSECONDS.load(Relaxed)),
        operations: OPERATIONS.load(Relaxed),
    }
}

/// Runs a product of `operations` operations.
#[inline(always)]
pub(crate) fn product(operations: u64, f: impl FnOnce()) {
    if !ON.load(Relaxed) {
        return f();
    }
    let clock = Instant::now();
    f();
    NANOSECONDS.fetch_add(clock.elapsed().as_nanos() as u64, Relaxed);
    OPERATIONS.fetch_add(operations, Relaxed);
}
