//! What two sets, networks or parts are told apart by.

use xxhash_rust::xxh3::Xxh3;

/// A hash of 128 bits of whatever is added, in order. It tells of accidents, not of forgeries.
#[derive(Default)]
pub(crate) struct Hash(Xxh3);

impl Hash {
    /// Adds bytes.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Adds a name: its length keeps two names from being one.
    pub fn name(&mut self, name: &str) {
        self.bytes(&(name.len() as u64).to_le_bytes());
        self.bytes(name.as_bytes());
    }

    /// Adds the bits of values.
    pub fn values(&mut self, values: &[f32]) {
        for value in values {
            self.bytes(&value.to_le_bytes());
        }
    }

    /// The hash so far, in hexadecimal digits.
    pub fn digits(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}
