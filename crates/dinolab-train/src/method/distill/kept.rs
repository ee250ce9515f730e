//! What a teacher has said of crops that come again, on disk.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use xxhash_rust::xxh3::xxh3_128;

use crate::{Error, Result};

/// Bytes before the values of a record: the key, and a CRC-32 of key and values.
const HEAD: usize = 20;

/// A teacher's outputs by the pixels that it was shown, in half precision. The file is a series of
/// records of one length: a key (16 bytes), a CRC-32 of the rest (4) and the values (`f16`). Records are
/// only appended; one that was cut off by a crash, or that is damaged, is as if it were not there.
pub(super) struct Kept {
    path: PathBuf,
    file: File,
    /// Values of a record.
    values: usize,
    /// Where the record of each key begins.
    places: HashMap<u128, u64>,
    end: u64,
}

impl Kept {
    /// Opens the file, or begins it.
    pub(super) fn open(path: &Path, values: usize) -> Result<Self> {
        let failed = |source| io_error(path, source);
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(path).map_err(failed)?;
        let record = (HEAD + 2 * values) as u64;
        let whole = file.metadata().map_err(failed)?.len() / record;
        let mut places = HashMap::new();
        for number in 0..whole {
            let mut key = [0; 16];
            file.seek(SeekFrom::Start(number * record))
                .and_then(|_| file.read_exact(&mut key))
                .map_err(failed)?;
            places.insert(u128::from_le_bytes(key), number * record);
        }
        Ok(Self {
            path: path.into(),
            file,
            values,
            places,
            end: whole * record,
        })
    }

    /// The key of an image.
    pub(super) fn key(pixels: &[f32]) -> u128 {
        let mut bytes = Vec::with_capacity(4 * pixels.len());
        bytes.extend(pixels.iter().flat_map(|value| value.to_le_bytes()));
        xxh3_128(&bytes)
    }

    /// The values of a key, if they are there and whole.
    pub(super) fn get(&mut self, key: u128) -> Result<Option<Vec<f32>>> {
        let Some(&place) = self.places.get(&key) else {
            return Ok(None);
        };
        let mut record = vec![0; HEAD + 2 * self.values];
        self.file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.file.read_exact(&mut record))
            .map_err(|source| io_error(&self.path, source))?;
        let (head, values) = record.split_at(HEAD);
        if head[..16] != key.to_le_bytes() || head[16..] != checksum(key, values) {
            self.places.remove(&key);
            return Ok(None);
        }
        let (values, _) = values.as_chunks();
        Ok(Some(
            values
                .iter()
                .map(|&v| f16::from_le_bytes(v).into())
                .collect(),
        ))
    }

    /// Keeps the values of a key.
    pub(super) fn put(&mut self, key: u128, values: &[f32]) -> Result<()> {
        if self.places.contains_key(&key) {
            return Ok(());
        }
        assert_eq!(values.len(), self.values, "records have one length");
        let values = values.iter();
        let values: Vec<u8> = values
            .flat_map(|&value| f16::from_f32(value).to_le_bytes())
            .collect();
        let record = [&key.to_le_bytes()[..], &checksum(key, &values), &values].concat();
        self.file
            .seek(SeekFrom::Start(self.end))
            .and_then(|_| self.file.write_all(&record))
            .map_err(|source| io_error(&self.path, source))?;
        self.places.insert(key, self.end);
        self.end += record.len() as u64;
        Ok(())
    }

    /// Values as they come back.
    pub(super) fn rounded(values: &[f32]) -> Vec<f32> {
        values.iter().map(|&v| f16::from_f32(v).into()).collect()
    }
}

/// A folder of such files, one for each size of crops and outputs, of one teacher.
pub(super) struct KeptFolder {
    folder: PathBuf,
    files: HashMap<String, Kept>,
}

impl KeptFolder {
    pub(super) fn new(folder: &Path, teacher: &str) -> Self {
        Self {
            folder: folder.join(teacher),
            files: HashMap::new(),
        }
    }

    /// The file for records of a kind, of so many values each.
    pub(super) fn file(&mut self, name: &str, values: usize) -> Result<&mut Kept> {
        let name = format!("{name}-{values}.f16");
        if !self.files.contains_key(&name) {
            std::fs::create_dir_all(&self.folder)
                .map_err(|source| io_error(&self.folder, source))?;
            let kept = Kept::open(&self.folder.join(&name), values)?;
            self.files.insert(name.clone(), kept);
        }
        Ok(self.files.get_mut(&name).expect("it was just put there"))
    }
}

fn checksum(key: u128, values: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&key.to_le_bytes());
    hasher.update(values);
    hasher.finalize().to_le_bytes()
}

fn io_error(path: &Path, source: std::io::Error) -> Error {
    Error::Io {
        path: path.into(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_damaged_records_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("outputs");
        let values =
            |image: usize| -> Vec<f32> { (0..5).map(|i| (image * 5 + i) as f32 / 7.0).collect() };
        let keys: Vec<u128> = (0..4).map(|image| Kept::key(&values(image))).collect();
        let mut kept = Kept::open(&path, 5).unwrap();
        for (image, &key) in keys.iter().enumerate() {
            assert_eq!(kept.get(key).unwrap(), None);
            kept.put(key, &values(image)).unwrap();
            kept.put(key, &values(image)).unwrap();
        }
        drop(kept);
        let record = HEAD + 10;
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 4 * record);
        // One value of the second record, and half of the last one.
        bytes[record + HEAD + 3] ^= 1;
        bytes.truncate(4 * record - 7);
        std::fs::write(&path, bytes).unwrap();
        let mut kept = Kept::open(&path, 5).unwrap();
        for (image, &key) in keys.iter().enumerate() {
            let expected = (image % 2 == 0).then(|| Kept::rounded(&values(image)));
            assert_eq!(kept.get(key).unwrap(), expected, "{image}");
            kept.put(key, &values(image)).unwrap();
        }
        let mut again = Kept::open(&path, 5).unwrap();
        for (image, &key) in keys.iter().enumerate() {
            assert_eq!(again.get(key).unwrap(), Some(Kept::rounded(&values(image))));
        }
    }
}
