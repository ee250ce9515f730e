//! What the processes of a run tell each other beside sums.

use std::collections::BTreeMap;

use dinolab_data::loader::UnusableImage;

use super::Ranks;
use crate::{Error, Result, State};

impl Ranks {
    /// Whether it is so in any process.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn any(&self, own: bool) -> Result<bool> {
        if self.size() == 1 {
            return Ok(own);
        }
        let all = self.comm.all_gather(&[u8::from(own)])?;
        Ok(all.concat().contains(&1))
    }

    /// The lowest process whose `text` differs from that of process 0, and both texts.
    ///
    /// # Errors
    /// [`Error::Ranks`].
    pub fn differing(&self, text: &str) -> Result<Option<(usize, [String; 2])>> {
        let all = self.comm.all_gather(text.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let other = all.iter().position(|other| *other != all[0]);
        Ok(other.map(|rank| (rank, [text(&all[0]), text(&all[rank])])))
    }

    /// Checks that all processes have the same state after `step` steps, by a checksum of each tensor.
    ///
    /// # Errors
    /// [`Error::Drift`] names the tensor.
    pub fn check_alike(&self, step: u64, state: impl FnOnce() -> State) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let state = state();
        let sums = state.tensors.values().map(|array| {
            let mut hasher = crc32fast::Hasher::new();
            for chunk in array.data.chunks(4096) {
                let bytes: Vec<u8> = chunk.iter().flat_map(|v| v.to_le_bytes()).collect();
                hasher.update(&bytes);
            }
            hasher.finalize()
        });
        let own: Vec<u8> = sums.flat_map(u32::to_le_bytes).collect();
        let all = self.comm.all_gather(&own)?;
        for (rank, other) in all.iter().enumerate() {
            let mut pairs = all[0].chunks(4).zip(other.chunks(4));
            let place = pairs.position(|(first, other)| first != other);
            let name = place.and_then(|place| state.tensors.keys().nth(place));
            if let Some(tensor) = name.cloned() {
                return Err(Error::Drift { step, tensor, rank });
            }
        }
        Ok(())
    }

    /// The unusable images that all processes have found, by index, of `images` images of which the
    /// share `limit` may be unusable.
    ///
    /// # Errors
    /// [`dinolab_data::Error::TooManyUnusable`].
    pub fn unusable(
        &self,
        own: Vec<UnusableImage>,
        images: usize,
        limit: f64,
    ) -> Result<Vec<UnusableImage>> {
        if self.size() == 1 {
            return Ok(own);
        }
        let plain: Vec<(usize, &str, &str)> = own
            .iter()
            .map(|image| (image.index, &*image.name, &*image.reason))
            .collect();
        let own = serde_json::to_vec(&plain).expect("plain data");
        let mut found = BTreeMap::new();
        for bytes in self.comm.all_gather(&own)? {
            let list: Vec<(usize, String, String)> =
                serde_json::from_slice(&bytes).expect("as it was written");
            for (index, name, reason) in list {
                let image = UnusableImage {
                    index,
                    name,
                    reason,
                };
                found.entry(index).or_insert(image);
            }
        }
        let found: Vec<UnusableImage> = found.into_values().collect();
        if found.len() > (limit * images as f64).floor() as usize {
            let first = &found[0];
            return Err(Error::Data(dinolab_data::Error::TooManyUnusable {
                bad: found.len(),
                total: images,
                limit_percent: limit * 100.0,
                first: format!("{} ({})", first.name, first.reason),
            }));
        }
        Ok(found)
    }
}
