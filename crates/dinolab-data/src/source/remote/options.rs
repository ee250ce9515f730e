//! How remote locations are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How remote locations are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// How often a request is made before it counts as failed, at least 1.
    pub attempts: u32,
    /// The pause after the first attempt. It doubles with each further one; up to half of each pause is
    /// left out at random, so that many readers do not retry at once.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// The longest time for connecting.
    pub connect_timeout: Duration,
    /// The longest time without data while waiting for a response.
    pub stall_timeout: Duration,
    /// The longest time for one attempt.
    pub request_timeout: Duration,
    /// The local cache; `None` disables it.
    pub cache: Option<CacheOptions>,
    /// Variables such as `AWS_ACCESS_KEY_ID`, instead of those of the process.
    pub environment: Option<BTreeMap<String, String>>,
}

/// A local cache of remote objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder, created if it does not exist. Several processes may share it.
    pub folder: PathBuf,
    /// The largest size in bytes. The least recently used entries are removed first.
    pub bytes: u64,
}

impl Default for RemoteOptions {
    fn default() -> Self {
        Self {
            attempts: 10,
            first_pause: Duration::from_millis(200),
            longest_pause: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(300),
            cache: None,
            environment: None,
        }
    }
}
