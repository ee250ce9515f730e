//! How long matrix products take, for benchmarks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static ON: AtomicBool = AtomicBool::new(false);
static NANOSECONDS: AtomicU64 = AtomicU64::new(0);
static OPERATIONS: AtomicU64 = AtomicU64::new(0);

/// What the matrix products since [`start`] took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// Time within products, of all threads together; packing of weights is not in it.
    pub products: Duration,
    /// Their multiplications and additions.
    pub operations: u64,
}

/// Starts to measure. Costs two readings of the clock for each product.
pub fn start() {
    NANOSECONDS.store(0, Relaxed);
    OPERATIONS.store(0, Relaxed);
    ON.store(true, Relaxed);
}

/// Ends measuring.
pub fn stop() -> Profile {
    ON.store(false, Relaxed);
    Profile {
        products: Duration::from_nanos(NANOSECONDS.load(Relaxed)),
        operations: OPERATIONS.load(Relaxed),
    }
}

/// Runs a product of so many operations.
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
