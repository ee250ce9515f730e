//! Requests with retries.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::{GetOptions, GetRange, ObjectMeta, PutMode, PutOptions, PutPayload};
use tokio::time::timeout;

use super::cache::Cache;
use super::error::{CHANGED, RequestError, is_conflict, is_not_implemented};
use super::location::{Location, Scheme};
use super::store::Store;
use super::{RemoteOptions, runtime};
use crate::Result;
use crate::source::files::io_error;

/// Attempts to reach a store that never answered: an address with a mistake in it should be
/// reported soon.
const FIRST_CONTACT: u32 = 5;

/// Names that are listed by one attempt, a request for 1000 each.
const NAMES: usize = 50_000;

/// Reads from any number of stores, from any number of threads.
#[derive(Debug)]
pub(super) struct Client {
    options: RemoteOptions,
    stores: Mutex<HashMap<(Scheme, String), Store>>,
    pub(super) cache: Option<Cache>,
    /// Whether any store ever answered.
    reached: AtomicBool,
}

/// Which of the objects that a location held over time.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Version {
    /// Bytes.
    pub(super) size: u64,
    /// What the store calls it, without quotes; `W/` before it where equal bytes are not promised.
    pub(super) e_tag: Option<Box<str>>,
    /// Seconds since 1970; 0 if the store does not report them.
    pub(super) modified: i64,
}

impl Version {
    fn of(meta: &ObjectMeta) -> Self {
        let tag = |tag: &String| {
            let (weak, name) = match tag.strip_prefix("W/") {
                Some(name) => ("W/", name),
                None => ("", tag.as_str()),
            };
            format!("{weak}{}", name.trim_matches('"')).into()
        };
        Self {
            size: meta.size,
            e_tag: meta.e_tag.as_ref().map(tag),
            modified: meta.last_modified.timestamp(),
        }
    }

    /// See [`crate::Source::stamp`].
    pub(super) fn stamp(&self) -> (u64, i64) {
        (self.size, self.modified.saturating_mul(1_000_000_000))
    }

    /// The tag as a condition of a request, where it promises equal bytes.
    fn condition(&self) -> Option<String> {
        let tag = self.e_tag.as_deref()?;
        (!tag.starts_with("W/")).then(|| format!("\"{tag}\""))
    }

    fn is(&self, other: &Self) -> bool {
        let same = |a: i64, b: i64| a == 0 || b == 0 || a == b;
        self.size == other.size
            && match (&self.e_tag, &other.e_tag) {
                (Some(a), Some(b)) => a.trim_start_matches("W/") == b.trim_start_matches("W/"),
                _ => same(self.modified, other.modified),
            }
    }
}

impl Client {
    pub(super) fn new(options: &RemoteOptions) -> Result<Arc<Self>> {
        let cache = options.cache.as_ref().map(Cache::open).transpose()?;
        Ok(Arc::new(Self {
            options: options.clone(),
            stores: Mutex::default(),
            cache,
            reached: AtomicBool::new(false),
        }))
    }

    pub(super) fn store(&self, location: &Location) -> Result<Store> {
        if location.has_query() {
            return Store::of(location, &self.options);
        }
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (location.scheme, location.store.clone());
        if let Some(store) = stores.get(&key) {
            return Ok(store.clone());
        }
        let store = Store::of(location, &self.options)?;
        stores.insert(key, store.clone());
        Ok(store)
    }

    /// Returns the object at a location now.
    pub(super) fn version(&self, location: &Location) -> Result<Version> {
        let store = self.store(location)?;
        // Servers of plain files need not know HEAD, and must know ranges.
        let (head, range) = match location.scheme {
            Scheme::Http => (false, Some(GetRange::Bounded(0..1))),
            _ => (true, None),
        };
        self.wait(location, async || {
            let options = GetOptions {
                head,
                range: range.clone(),
                ..GetOptions::default()
            };
            let got = self.ask(&store, location, options).await?;
            Ok(Version::of(&got.meta))
        })
    }

    /// An object, or a part of it. A `version` must be that of the object that is read.
    pub(super) fn read(
        &self,
        location: &Location,
        version: Option<&Version>,
        range: Option<Range<u64>>,
    ) -> Result<(Vec<u8>, Version)> {
        let store = self.store(location)?;
        let first = range.as_ref().map_or(0, |range| range.start);
        let mut bytes = Vec::new();
        self.wait(location, async || {
            if version.is_none() {
                bytes.clear();
            }
            let start = first + bytes.len() as u64;
            // What was received before an attempt broke off need not be sent again.
            let range = match (&range, version) {
                (Some(range), _) => Some(start..range.end),
                (None, Some(version)) if start > 0 => Some(start..version.size),
                (None, _) => None,
            };
            let options = GetOptions {
                if_match: version.and_then(Version::condition),
                range: range.map(GetRange::Bounded),
                ..GetOptions::default()
            };
            self.receive(&store, location, version, options, &mut bytes)
                .await
        })
        .map(|version| (bytes, version))
    }

    /// A whole object, unless it is the one that is known: then none.
    pub(super) fn read_unless(
        &self,
        location: &Location,
        known: &Version,
    ) -> Result<Option<(Vec<u8>, Version)>> {
        let store = self.store(location)?;
        self.wait(location, async || {
            let options = GetOptions {
                if_none_match: known.condition(),
                ..GetOptions::default()
            };
            let mut bytes = Vec::new();
            match self
                .receive(&store, location, None, options, &mut bytes)
                .await
            {
                Ok(version) => Ok(Some((bytes, version))),
                Err(RequestError::Unchanged) => Ok(None),
                Err(trouble) => Err(trouble),
            }
        })
    }

    /// Stores an object, whole or not at all; if it is to be `new`, one that is there stays.
    pub(super) fn write(&self, location: &Location, bytes: Vec<u8>, new: bool) -> Result<()> {
        let store = self.store(location)?;
        let payload = PutPayload::from(bytes);
        self.wait(location, async || {
            let put = async |mode: PutMode| {
                let options = PutOptions::from(mode);
                (store.objects)
                    .put_opts(&location.key, payload.clone(), options)
                    .await
            };
            let written = match new {
                true => match put(PutMode::Create).await {
                    Err(error) if is_not_implemented(&error) => put(PutMode::Overwrite).await,
                    // Perhaps by an attempt of this process whose answer was lost. S3 also says so of a
                    // writer at the same time, who may yet fail.
                    Err(object_store::Error::AlreadyExists { source, .. })
                        if location.scheme != Scheme::S3 || !is_conflict(&*source) =>
                    {
                        return Ok(());
                    }
                    written => written,
                },
                false => put(PutMode::Overwrite).await,
            };
            match written {
                Ok(_) => Ok(()),
                // Another writer was at it at the same time.
                Err(object_store::Error::AlreadyExists { source, .. }) => {
                    Err(RequestError::transient(source.to_string()))
                }
                Err(error) => Err(RequestError::of(&error, location, store.signed)),
            }
        })
    }

    /// The names of all objects whose location lies below a folder, as the store has them.
    pub(super) fn list(&self, folder: &Location) -> Result<Vec<(String, Version)>> {
        let store = self.store(folder)?;
        let prefix = Some(&folder.key).filter(|key| !key.is_root());
        let mut found: Vec<ObjectMeta> = Vec::new();
        let mut in_order = true;
        loop {
            let before = found.len();
            let at_end = self.wait(folder, async || {
                // Each page is a request. After trouble go on behind the last name; where names
                // come in no order, from the start.
                let mut names = match found.last() {
                    Some(last) if in_order => {
                        store.objects.list_with_offset(prefix, &last.location)
                    }
                    _ => {
                        found.clear();
                        store.objects.list(prefix)
                    }
                };
                loop {
                    let next = self.not_stalled(names.next()).await;
                    let trouble = match next {
                        Ok(None) => return Ok(true),
                        Ok(Some(Ok(meta))) => {
                            in_order &= found.last().is_none_or(|l| l.location < meta.location);
                            found.push(meta);
                            // An attempt has to end in time, however much there is.
                            if in_order && found.len() - before == NAMES {
                                return Ok(false);
                            }
                            continue;
                        }
                        Ok(Some(Err(error))) => RequestError::of(&error, folder, store.signed),
                        Err(trouble) => trouble,
                    };
                    return match trouble {
                        RequestError::Transient { .. } if in_order && found.len() > before => {
                            Ok(false)
                        }
                        trouble => Err(trouble),
                    };
                }
            })?;
            if at_end {
                let named = |meta: ObjectMeta| (meta.location.to_string(), Version::of(&meta));
                return Ok(found.into_iter().map(named).collect());
            }
        }
    }

    async fn receive(
        &self,
        store: &Store,
        location: &Location,
        version: Option<&Version>,
        options: GetOptions,
        bytes: &mut Vec<u8>,
    ) -> Result<Version, RequestError> {
        let got = self.ask(store, location, options).await?;
        let found = Version::of(&got.meta);
        if version.is_some_and(|version| !version.is(&found)) {
            return Err(RequestError::Permanent(CHANGED.into()));
        }
        let expected = (got.range.end - got.range.start) as usize;
        let before = bytes.len();
        // Not all of it at once: a server may claim any length.
        bytes.reserve(expected.min(64 << 20));
        let mut parts = got.into_stream();
        while let Some(part) = self.not_stalled(parts.next()).await? {
            let part = part.map_err(|error| RequestError::of(&error, location, store.signed))?;
            bytes.extend_from_slice(&part);
            if bytes.len() - before > expected {
                bytes.truncate(before);
                return Err(RequestError::transient(
                    "the server sent more data than requested",
                ));
            }
        }
        match bytes.len() - before {
            received if received < expected => Err(RequestError::transient(format!(
                "the connection broke off after {received} of {expected} bytes"
            ))),
            _ => Ok(found),
        }
    }

    async fn ask(
        &self,
        store: &Store,
        location: &Location,
        options: GetOptions,
    ) -> Result<object_store::GetResult, RequestError> {
        self.not_stalled(store.objects.get_opts(&location.key, options))
            .await?
            .map_err(|error| RequestError::of(&error, location, store.signed))
    }

    async fn not_stalled<T>(&self, work: impl Future<Output = T>) -> Result<T, RequestError> {
        let limit = self.options.stall_timeout;
        let stalled = |_| RequestError::transient(format!("nothing arrived for {limit:?}"));
        timeout(limit, work).await.map_err(stalled)
    }

    /// Waits for an attempt that succeeds.
    fn wait<T>(
        &self,
        location: &Location,
        mut once: impl AsyncFnMut() -> Result<T, RequestError>,
    ) -> Result<T> {
        let options = &self.options;
        let work = async {
            let mut made = 0;
            loop {
                made += 1;
                let limit = options.request_timeout;
                let outcome = timeout(limit, once()).await.unwrap_or_else(|_| {
                    Err(RequestError::transient(format!(
                        "it took more than {limit:?}"
                    )))
                });
                let trouble = match outcome {
                    Ok(value) => {
                        self.reached.store(true, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err(trouble) => trouble,
                };
                let most = match trouble {
                    RequestError::Transient { unconnected, .. } => {
                        let first = unconnected && !self.reached.load(Ordering::Relaxed);
                        let most = if first { FIRST_CONTACT } else { u32::MAX };
                        most.min(options.attempts)
                    }
                    _ => 0,
                };
                if made >= most {
                    return Err(trouble.into_error(location, made));
                }
                tokio::time::sleep(pause(options, made)).await;
            }
        };
        runtime::wait(work).map_err(|error| io_error(&location.path(), error))?
    }
}

/// How long to wait after attempt number `made`.
fn pause(options: &RemoteOptions, made: u32) -> Duration {
    let doubled = 2u32.saturating_pow((made - 1).min(31));
    let longest = options.first_pause.saturating_mul(doubled);
    let longest = longest.min(options.longest_pause);
    // Each `RandomState` has keys of its own.
    let random = RandomState::new().hash_one(made) as u32;
    longest.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let options = RemoteOptions {
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(1),
            ..RemoteOptions::default()
        };
        for (made, longest) in [(1, 100), (2, 200), (4, 800), (5, 1000), (40, 1000)] {
            let pause = pause(&options, made).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{made}: {pause}");
        }
    }

    #[test]
    fn versions_are_told_apart_by_tag_or_else_by_time() {
        let version = |size, tag: Option<&str>, modified| Version {
            size,
            e_tag: tag.map(Into::into),
            modified,
        };
        let known = version(5, Some("a"), 7);
        assert!(known.is(&version(5, Some("a"), 8)));
        assert!(known.is(&version(5, None, 0)));
        assert!(!known.is(&version(5, None, 8)));
        assert!(!known.is(&version(5, Some("b"), 7)));
        assert!(!known.is(&version(6, Some("a"), 7)));
        assert_eq!(known.condition().as_deref(), Some("\"a\""));
        assert_eq!(version(5, Some("W/a"), 7).condition(), None);
    }
}
