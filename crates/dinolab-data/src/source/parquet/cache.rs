//! A cache of the most recently decompressed pages.
//!
//! A page holds many images, and none of them can be had without unpacking it, so that it is kept
//! while its other images are likely to be wanted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parquet::data_type::ByteArray;

use crate::decode::Reason;
use crate::source::parquet::failure::Failure;

/// Row group, and page within it.
pub(super) type Key = (usize, usize);

/// The values of a page, `None` for a null; they share its bytes.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) values: Vec<Option<ByteArray>>,
    /// What they take in memory.
    pub(super) bytes: usize,
}

/// A page, once it was unpacked, or what is wrong with it.
#[derive(Debug, Default)]
struct Slot {
    page: Mutex<Option<Result<Arc<Rows>, Reason>>>,
    bytes: AtomicUsize,
}

/// A bounded number of bytes of unpacked pages, and the page requested last.
#[derive(Debug)]
pub(super) struct Cache {
    most: usize,
    /// The one used last at the back.
    recent: Mutex<VecDeque<(Key, Arc<Slot>)>>,
    /// Held while a page is unpacked: one at a time, so that memory does not depend on threads.
    unpacking: Mutex<()>,
}

impl Cache {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            recent: Mutex::default(),
            unpacking: Mutex::default(),
        }
    }

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Key, Arc<Slot>)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The rows of a page, which `unpack` gets where they are not at hand.
    ///
    /// A page that is damaged is remembered as such; one that could not be read is tried again.
    pub(super) fn rows(
        &self,
        key: Key,
        unpack: impl FnOnce() -> Result<Rows, Failure> + Send,
    ) -> Result<Arc<Rows>, Failure> {
        let slot = {
            let mut recent = self.recent();
            let slot = match recent.iter().position(|(of, _)| *of == key) {
                Some(at) => recent.remove(at).expect("it was found there").1,
                None => Arc::default(),
            };
            recent.push_back((key, Arc::clone(&slot)));
            slot
        };
        // Who wants the same page at the same time waits for it here.
        let mut page = slot.page.lock().unwrap_or_else(PoisonError::into_inner);
        if page.is_none() {
            let _alone = self
                .unpacking
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.make_room();
            *page = Some(match apart(unpack) {
                Ok(rows) => {
                    slot.bytes.store(rows.bytes, Ordering::Relaxed);
                    Ok(Arc::new(rows))
                }
                Err(Failure::Bad(reason)) => Err(reason),
                Err(failure) => return Err(failure),
            });
        }
        match page.as_ref() {
            Some(Ok(rows)) => Ok(Arc::clone(rows)),
            Some(Err(reason)) => Err(Failure::Bad(reason.clone())),
            None => unreachable!("it was set above"),
        }
    }

    /// Bytes of the pages that are kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let bytes = |(_, slot): &(Key, Arc<Slot>)| slot.bytes.load(Ordering::Relaxed);
        self.recent().iter().map(bytes).sum()
    }

    /// Lets go of the pages that were used longest ago, until the rest is within the limit.
    fn make_room(&self) {
        let mut recent = self.recent();
        let mut held = 0;
        let mut keep = recent.len();
        for (_, slot) in recent.iter().rev() {
            held += slot.bytes.load(Ordering::Relaxed);
            if held > self.most {
                break;
            }
            keep -= 1;
        }
        recent.drain(..keep);
    }
}

/// Unpacks a page in a thread of its own. Allocators keep what a thread has freed for that thread:
/// pages that many threads unpack in turn take several times their size.
fn apart(unpack: impl FnOnce() -> Result<Rows, Failure> + Send) -> Result<Rows, Failure> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("parquet page".into());
        let thread = thread.spawn_scoped(scope, unpack).map_err(Failure::Read)?;
        let gave_up = |_| Err("damaged: its decoder gave up on it (a panic)".into());
        thread.join().unwrap_or_else(gave_up)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 100;

    fn held(cache: &Cache) -> Vec<usize> {
        let recent = cache.recent();
        recent.iter().map(|((_, page), _)| *page).collect()
    }

    fn get(cache: &Cache, page: usize, bytes: usize) -> bool {
        let mut unpacked = false;
        let rows = || {
            unpacked = true;
            Ok(Rows {
                values: Vec::new(),
                bytes,
            })
        };
        cache.rows((0, page), rows).unwrap();
        unpacked
    }

    #[test]
    fn pages_are_kept_within_the_limit_and_unpacked_once() {
        let cache = Cache::new(3 * PAGE);
        for page in 0..4 {
            assert!(get(&cache, page, PAGE));
        }
        assert_eq!(held(&cache), [0, 1, 2, 3]);
        assert!(!get(&cache, 1, PAGE));
        // Room for the next one is made before it is unpacked.
        assert!(get(&cache, 4, PAGE));
        assert_eq!(held(&cache), [2, 3, 1, 4]);
        assert!(get(&cache, 5, 10 * PAGE));
        assert_eq!(held(&cache), [3, 1, 4, 5]);
        assert!(get(&cache, 6, PAGE));
        assert_eq!(held(&cache), [6]);
    }

    #[test]
    fn damage_is_remembered_and_a_failed_read_is_not() {
        let cache = Cache::new(PAGE);
        let mut tried = [0; 2];
        for _ in 0..3 {
            let damaged = || {
                tried[0] += 1;
                Err(Failure::from("damaged"))
            };
            cache.rows((0, 0), damaged).unwrap_err();
            let slow = || {
                tried[1] += 1;
                Err(Failure::Read(std::io::ErrorKind::TimedOut.into()))
            };
            cache.rows((0, 1), slow).unwrap_err();
        }
        assert_eq!(tried, [1, 3]);
    }
}
