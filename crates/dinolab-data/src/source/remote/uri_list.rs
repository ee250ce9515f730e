//! Lists whose lines are URIs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::client::{Client, Version};
use super::location::{Location, below, folder_of};
use super::{RemoteOptions, scheme};
use crate::Result;

/// Reads what the lines of a list name.
#[derive(Debug)]
pub(in crate::source) struct UriResolver {
    options: RemoteOptions,
    /// Made when the first line needs it: most lists name local files.
    client: OnceLock<Arc<Client>>,
    /// Where the list lies, if not on this machine.
    folder: Option<String>,
    /// What was read before, by this process.
    known: Mutex<HashMap<String, Version>>,
}

impl UriResolver {
    /// For a local list, of which some lines may be locations.
    pub(in crate::source) fn new(options: &RemoteOptions) -> Self {
        Self {
            options: options.clone(),
            client: OnceLock::new(),
            folder: None,
            known: Mutex::default(),
        }
    }

    /// For a list that lies at `list`, whose lines are locations or relative to it.
    pub(super) fn beside(client: Arc<Client>, options: &RemoteOptions, list: &Location) -> Self {
        let this = Self::new(options);
        Self {
            client: OnceLock::from(client),
            folder: Some(folder_of(list.text()).to_owned()),
            ..this
        }
    }

    /// The location that a line means; none where that is a local path.
    pub(in crate::source) fn location(&self, line: &str) -> Option<PathBuf> {
        self.text(line).map(PathBuf::from)
    }

    fn text(&self, line: &str) -> Option<String> {
        match (&self.folder, scheme(line)) {
            (_, Some(_)) => Some(line.to_owned()),
            (Some(folder), None) => Some(below(folder, line.trim_start_matches("./"))),
            (None, None) => None,
        }
    }

    /// Checks that a line can be one; `None` where it is a local path.
    pub(in crate::source) fn check(&self, line: &str) -> Option<Result<()>> {
        let text = self.text(line)?;
        Some(Location::parse(&text).map(|_| ()))
    }

    /// The file of a line; `None` where that is a local path.
    pub(in crate::source) fn read(&self, line: &str) -> Option<Result<Vec<u8>>> {
        let text = self.text(line)?;
        Some(Location::parse(&text).and_then(|location| self.fetch(&location)))
    }

    fn client(&self) -> Result<&Arc<Client>> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = Client::new(&self.options)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Nobody listed these objects, so that their version is only known when they were read. The
    /// cache keeps it, and the store is asked, once, whether it is still the same.
    fn fetch(&self, location: &Location) -> Result<Vec<u8>> {
        let client = self.client()?;
        let Some(cache) = &client.cache else {
            return Ok(client.read(location, None, None)?.0);
        };
        let lock = || self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(location.text()).cloned();
        if let Some(version) = known {
            return client.whole(location, &version);
        }
        let endpoint = client.store(location)?.endpoint;
        let pointer = format!("version {endpoint} {}", location.text());
        let before: Option<Version> = cache
            .get(&pointer)
            .and_then(|text| serde_json::from_slice(&text).ok())
            // Without a tag it cannot be asked for.
            .filter(|version: &Version| version.e_tag.is_some());
        let found = match &before {
            Some(version) => client.read_unless(location, version)?,
            None => Some(client.read(location, None, None)?),
        };
        let (bytes, version) = match (found, before) {
            (None, Some(version)) => (client.whole(location, &version)?, version),
            (Some((bytes, version)), _) => {
                client.keep(location, &version, &bytes)?;
                if let Ok(text) = serde_json::to_vec(&version) {
                    cache.put(&pointer, &text);
                }
                (bytes, version)
            }
            (None, None) => unreachable!("a version that is not known cannot be the same"),
        };
        lock().insert(location.text().to_owned(), version);
        Ok(bytes)
    }
}
