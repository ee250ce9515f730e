//! The local cache of remote objects, of bounded size.
//!
//! Every entry is a file of its own, `NN/NAME`, named by a hash of what it holds: the location, the
//! object's version, and the range. It repeats that description and carries a checksum, so that
//! neither a damaged file nor one of another object is ever taken for the right one. Files are
//! written under a temporary name and renamed.
//!
//! The file `dinolab.lock` is held while the folder changes, by one thread of one process at a time; it
//! holds the number of bytes in the folder. Whoever needs room looks through the folder and removes
//! what was not used for the longest time. Reading takes no lock.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::CacheOptions;
use crate::source::files::io_error;
use crate::{Error, Result};

/// Begins every entry; another format would have another number.
const MAGIC: &[u8; 8] = b"dinolab1";
/// Magic, length of the description, length of the content, checksum of the content.
const HEAD: usize = 8 + 4 + 8 + 8;
/// The file that is held while the folder changes.
const LOCK: &str = "dinolab.lock";
/// Room is made in steps, so that not every entry has to look for it: this share of the bound.
const STEP: u64 = 16;
/// Uses closer together than this count as one, which spares the disk.
const RECENT: Duration = Duration::from_secs(30);

/// A folder of entries.
#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    most: u64,
    /// Also keeps threads of this process apart.
    lock: Mutex<File>,
}

/// An entry in the folder.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl Cache {
    pub(super) fn open(options: &CacheOptions) -> Result<Self> {
        let folder = &options.folder;
        let failed = |source| io_error(folder, source);
        fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join(LOCK);
        // A folder of something else would be emptied as it fills up.
        if !path.exists() && fs::read_dir(folder).map_err(failed)?.next().is_some() {
            return Err(Error::BadSource {
                path: folder.clone(),
                reason: "holds other files; a folder that is empty or new is needed to keep what \
                         was read from other machines"
                    .into(),
            });
        }
        let lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        let this = Self {
            folder: folder.clone(),
            most: options.bytes,
            lock: Mutex::new(lock),
        };
        // Counts what lies there, and removes what is too much.
        this.locked(|this, _| this.make_room(0)).map_err(failed)?;
        Ok(this)
    }

    /// Most bytes in the folder.
    pub(super) fn most(&self) -> u64 {
        self.most
    }

    /// What is kept under a description. An entry that is damaged is removed.
    pub(super) fn get(&self, description: &str) -> Option<Vec<u8>> {
        let path = self.place(description);
        let mut file = File::open(&path).ok()?;
        let content = read(&mut file, description);
        if let Ok(Some(content)) = content {
            let now = SystemTime::now();
            let used = file.metadata().and_then(|found| found.modified());
            let since = used.ok().and_then(|used| now.duration_since(used).ok());
            if since.is_none_or(|since| since >= RECENT) {
                // Fails where the file was removed meanwhile, or the folder is read-only.
                let _ = File::options()
                    .append(true)
                    .open(&path)
                    .and_then(|file| file.set_times(FileTimes::new().set_modified(now)));
            }
            return Some(content);
        }
        let _ = self.locked(|_, total| {
            let bytes = fs::metadata(&path)?.len();
            fs::remove_file(&path)?;
            Ok(total.saturating_sub(bytes))
        });
        None
    }

    /// Stores an entry. A failure is not an error: the entry is read again.
    pub(super) fn put(&self, description: &str, content: &[u8]) {
        let bytes = (HEAD + description.len() + content.len()) as u64;
        if bytes > self.most {
            return;
        }
        let path = self.place(description);
        let _ = self.locked(|this, mut total| {
            let before = fs::metadata(&path).map_or(0, |found| found.len());
            if total - before.min(total) + bytes > this.most {
                total = this.make_room(bytes)?;
            }
            let before = fs::metadata(&path).map_or(0, |found| found.len());
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let temporary = this.folder.join("writing");
            let written = write(&temporary, description, content)
                .and_then(|()| fs::rename(&temporary, &path));
            if written.is_err() {
                let _ = fs::remove_file(&temporary);
                written?;
            }
            Ok((total + bytes).saturating_sub(before))
        });
    }

    fn place(&self, description: &str) -> PathBuf {
        let name = format!("{:032x}", xxh3_128(description.as_bytes()));
        self.folder.join(&name[..2]).join(&name[2..])
    }

    /// Changes the folder, as the only one. `work` gets the number of bytes in the folder and
    /// returns the new one.
    fn locked(&self, work: impl FnOnce(&Self, u64) -> io::Result<u64>) -> io::Result<()> {
        let mut file = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        file.lock()?;
        let mut text = String::new();
        let changed = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_string(&mut text))
            // Not a number where a process ended while it wrote: then all is counted anew.
            .and_then(|_| text.trim().parse().map_or_else(|_| self.make_room(0), Ok))
            .and_then(|total| work(self, total));
        let done = changed.and_then(|total| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            write!(file, "{total}")
        });
        file.unlock()?;
        done
    }

    /// Removes entries until `bytes` more have room, with some to spare. Returns the bytes left.
    fn make_room(&self, bytes: u64) -> io::Result<u64> {
        let mut entries = self.entries()?;
        let mut total: u64 = entries.iter().map(|entry| entry.bytes).sum();
        if total + bytes <= self.most {
            return Ok(total);
        }
        let aim = self.most.saturating_sub(self.most / STEP);
        entries.sort_by(|a, b| (a.used, &a.path).cmp(&(b.used, &b.path)));
        for entry in entries {
            if total + bytes <= aim || total == 0 {
                break;
            }
            match fs::remove_file(&entry.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => total -= entry.bytes,
            }
        }
        Ok(total)
    }

    fn entries(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for folder in fs::read_dir(&self.folder)? {
            let folder = folder?;
            if !is_hash(&folder.file_name(), 2) || !folder.file_type()?.is_dir() {
                continue;
            }
            for entry in fs::read_dir(folder.path())? {
                let entry = entry?;
                if !is_hash(&entry.file_name(), 30) {
                    continue;
                }
                let found = entry.metadata()?;
                entries.push(Entry {
                    path: entry.path(),
                    bytes: found.len(),
                    used: found.modified()?,
                });
            }
        }
        Ok(entries)
    }
}

/// Whether a name is one that [`Cache::place`] makes: nothing else is ever removed.
fn is_hash(name: &OsStr, digits: usize) -> bool {
    name.len() == digits && name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit)
}

fn write(path: &Path, description: &str, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut head = Vec::with_capacity(HEAD + description.len());
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&(description.len() as u32).to_le_bytes());
    head.extend_from_slice(&(content.len() as u64).to_le_bytes());
    head.extend_from_slice(&xxh3_64(content).to_le_bytes());
    head.extend_from_slice(description.as_bytes());
    file.write_all(&head)?;
    file.write_all(content)
}

/// The content of an entry; none where it is not that of `description`, or damaged.
fn read(file: &mut File, description: &str) -> io::Result<Option<Vec<u8>>> {
    let mut head = vec![0; HEAD + description.len()];
    file.read_exact(&mut head)?;
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let (length, checksum) = (number(12), number(20));
    let is_it = head[..8] == *MAGIC
        && head[8..12] == (description.len() as u32).to_le_bytes()
        && head[HEAD..] == *description.as_bytes()
        && file.metadata()?.len() == (head.len() as u64).saturating_add(length);
    if !is_it {
        return Ok(None);
    }
    let mut content = Vec::with_capacity(length as usize);
    file.read_to_end(&mut content)?;
    Ok((content.len() as u64 == length && xxh3_64(&content) == checksum).then_some(content))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn cache(folder: &Path, bytes: u64) -> Cache {
        Cache::open(&CacheOptions {
            folder: folder.to_path_buf(),
            bytes,
        })
        .unwrap()
    }

    /// What the folder holds, and what it is said to hold.
    fn held(cache: &Cache) -> (u64, u64) {
        let told = fs::read_to_string(cache.folder.join(LOCK)).unwrap();
        let sum = cache.entries().unwrap().iter().map(|e| e.bytes).sum();
        (sum, told.parse().unwrap())
    }

    /// Makes an entry look as if it was used so many minutes ago.
    fn age(cache: &Cache, description: &str, minutes: u64) {
        let time = SystemTime::now() - Duration::from_secs(60 * minutes);
        let file = File::options().append(true).open(cache.place(description));
        file.unwrap().set_modified(time).unwrap();
    }

    #[test]
    fn what_was_not_used_for_longest_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 5 * 1100);
        for (number, minutes) in [50, 40, 30, 20].into_iter().enumerate() {
            let name = number.to_string();
            cache.put(&name, &[number as u8; 1000]);
            age(&cache, &name, minutes);
        }
        // Used again: the next one is the oldest now.
        assert_eq!(cache.get("0"), Some(vec![0; 1000]));
        cache.put("4", &[4; 1500]);
        assert_eq!(cache.get("1"), None);
        for number in [0, 2, 3] {
            assert_eq!(cache.get(&number.to_string()), Some(vec![number; 1000]));
        }
        assert_eq!(cache.get("4"), Some(vec![4; 1500]));
        assert_eq!(held(&cache).0, held(&cache).1);
        // Too large to be kept at all.
        cache.put("5", &[5; 6000]);
        assert_eq!(cache.get("5"), None);
        assert!(cache.get("4").is_some());
    }

    #[test]
    fn an_entry_that_is_written_again_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 1 << 20);
        for length in [100, 5000, 10] {
            cache.put("a", &vec![1; length]);
            assert_eq!(cache.get("a"), Some(vec![1; length]));
            assert_eq!(
                held(&cache),
                ((HEAD + 1 + length) as u64, (HEAD + 1 + length) as u64)
            );
        }
    }

    #[test]
    fn a_smaller_bound_and_what_an_interrupted_process_left_are_put_right() {
        let folder = tempfile::tempdir().unwrap();
        let large = cache(folder.path(), 1 << 20);
        for number in 0..10 {
            large.put(&number.to_string(), &[0; 1000]);
        }
        for left in ["", "12", "123456789012", "nonsense"] {
            fs::write(folder.path().join(LOCK), left).unwrap();
            fs::write(folder.path().join("writing"), [0; 50]).unwrap();
            let again = cache(folder.path(), 1 << 20);
            assert_eq!(held(&again), (10 * 1029, 10 * 1029), "{left:?}");
        }
        let small = cache(folder.path(), 3000);
        assert!(held(&small).0 <= 3000);
        assert!(large.get("9").is_some() || large.get("8").is_some());
    }

    #[test]
    fn damage_of_any_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(folder.path(), 1 << 20);
        let content = b"the content";
        let length = HEAD + 3 + content.len();
        for at in 0..length {
            cache.put("key", content);
            let path = cache.place("key");
            let mut bytes = fs::read(&path).unwrap();
            assert_eq!(bytes.len(), length);
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            assert_eq!(cache.get("key"), None, "byte {at}");
            assert!(!path.exists());
            cache.put("key", content);
            fs::write(&path, &fs::read(&path).unwrap()[..at]).unwrap();
            assert_eq!(cache.get("key"), None, "{at} bytes");
        }
        // Of a file that was cut short, more is thought to be there until somebody looks.
        assert_eq!(held(&cache).0, 0);
        drop(cache);
        assert_eq!(held(&self::cache(folder.path(), 1 << 20)), (0, 0));
    }

    #[test]
    fn several_may_use_a_folder_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let most = 40_000;
        let start = Instant::now();
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let cache = cache(folder.path(), most);
                scope.spawn(move || {
                    for number in 0..200u64 {
                        let name = ((number * 7 + thread) % 60).to_string();
                        let content = vec![name.len() as u8; 1000];
                        if let Some(found) = cache.get(&name) {
                            assert_eq!(found, content);
                        }
                        cache.put(&name, &content);
                        // Looking takes time, in which nobody may change the folder.
                        let mut sum = 0;
                        let look = |cache: &Cache, total| {
                            sum = cache.entries()?.iter().map(|entry| entry.bytes).sum();
                            Ok(total)
                        };
                        cache.locked(look).unwrap();
                        assert!(sum <= most, "{sum}");
                    }
                });
            }
        });
        let cache = cache(folder.path(), most);
        assert_eq!(held(&cache).0, held(&cache).1);
        assert!(start.elapsed() < Duration::from_secs(60));
    }
}
