//! Pages that were unpacked last.
//!
//! A page holds many images, and none of them can be had without unpacking it, so that it is kept
//! while its other images are likely to be wanted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use parquet::data_type::ByteArray;

use super::Failure;

/// Row group, and page within it.
pub(super) type Key = (usize, usize);

/// The values of a page, `None` for a null; they share its bytes.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) values: Vec<Option<ByteArray>>,
    /// What they take in memory.
    pub(super) bytes: usize,
}

type Slot = Arc<OnceLock<Result<Rows, Failure>>>;

/// At most so many bytes of unpacked pages, and the one that was asked for last.
#[derive(Debug)]
pub(super) struct Cache {
    most: usize,
    /// The one used last at the back.
    recent: Mutex<VecDeque<(Key, Slot)>>,
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

    fn recent(&self) -> MutexGuard<'_, VecDeque<(Key, Slot)>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses the rows of a page, which `unpack` gets where they are not at hand.
    ///
    /// A page that is damaged is remembered as such; one that could not be read is tried again.
    pub(super) fn with<T>(
        &self,
        key: Key,
        unpack: impl FnOnce() -> Result<Rows, Failure>,
        then: impl FnOnce(&Rows) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let slot = {
            let mut recent = self.recent();
            let slot = match recent.iter().position(|(of, _)| *of == key) {
                Some(at) => recent.remove(at).expect("it was found there").1,
                None => Slot::default(),
            };
            recent.push_back((key, Arc::clone(&slot)));
            slot
        };
        // Who wants the same page at the same time waits for it here.
        let rows = slot.get_or_init(|| {
            let _alone = self
                .unpacking
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            self.make_room();
            unpack()
        });
        if matches!(rows, Err(Failure::Read(..))) {
            self.recent()
                .retain(|(_, other)| !Arc::ptr_eq(other, &slot));
        }
        then(rows.as_ref().map_err(Clone::clone)?)
    }

    /// Bytes of the pages that are kept.
    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        let held = |(_, slot): &(Key, Slot)| match slot.get() {
            Some(Ok(rows)) => rows.bytes,
            _ => 0,
        };
        self.recent().iter().map(held).sum()
    }

    /// Lets go of the pages that were used longest ago, until the rest is within the limit.
    fn make_room(&self) {
        let mut recent = self.recent();
        let mut held = 0;
        let mut keep = recent.len();
        for (_, slot) in recent.iter().rev() {
            if let Some(Ok(rows)) = slot.get() {
                held += rows.bytes;
                if held > self.most {
                    break;
                }
            }
            keep -= 1;
        }
        recent.drain(..keep);
    }
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
        cache.with((0, page), rows, |_| Ok(())).unwrap();
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
        let mut tried = 0;
        for failure in [
            Failure::from("damaged"),
            Failure::Read(std::io::ErrorKind::TimedOut, "slow".into()),
        ] {
            let page = tried;
            for _ in 0..3 {
                let unpack = || {
                    tried += 1;
                    Err(failure.clone())
                };
                cache.with((0, page), unpack, |_| Ok(())).unwrap_err();
            }
        }
        assert_eq!(tried, 1 + 3);
    }
}
