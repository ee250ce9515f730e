//! An in-memory cache of decoded images.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::decode::Scaled;

/// Keeps images until the budget is used up: first come, first kept, none is dropped.
pub(super) struct ImageCache {
    images: Vec<OnceLock<Arc<Scaled>>>,
    left: AtomicU64,
}

impl ImageCache {
    pub(super) fn new(len: usize, bytes: u64) -> Self {
        let len = if bytes == 0 { 0 } else { len };
        Self {
            images: (0..len).map(|_| OnceLock::new()).collect(),
            left: bytes.into(),
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<Arc<Scaled>> {
        self.images.get(index)?.get().cloned()
    }

    pub(super) fn offer(&self, index: usize, image: &Arc<Scaled>) {
        let Some(place) = self.images.get(index) else {
            return;
        };
        let bytes = image.image.data.len() as u64;
        let take = |left: u64| left.checked_sub(bytes);
        if self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
            && place.set(Arc::clone(image)).is_err()
        {
            // Another worker was faster: it has paid.
            self.left.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Image;

    #[test]
    fn keeps_what_fits() {
        let cache = ImageCache::new(3, 100);
        let image = Arc::new(Scaled::full(Image::new(4, 4, 3)));
        cache.offer(2, &image);
        cache.offer(2, &image);
        cache.offer(1, &image);
        cache.offer(0, &image);
        cache.offer(9, &image);
        assert!(cache.get(2).is_some() && cache.get(1).is_some());
        assert!(cache.get(0).is_none() && cache.get(9).is_none());
        assert_eq!(cache.left.load(Ordering::Relaxed), 4);
    }

    #[test]
    fn keeps_nothing_when_off() {
        let cache = ImageCache::new(3, 0);
        cache.offer(0, &Arc::new(Scaled::full(Image::default())));
        assert!(cache.get(0).is_none());
    }
}
