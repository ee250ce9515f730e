//! How locations of other machines are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How locations of other machines are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteOptions {
    /// How often a request is made before it counts as failed, at least 1.
    pub attempts: u32,
    /// The pause after the first attempt. It doubles with each further one, and of each a random
    /// half is left out, so that many readers do not come back at once.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long nothing may arrive while an answer is waited for.
    pub stall_timeout: Duration,
    /// How long one attempt may take in all.
    pub request_timeout: Duration,
    /// Where what was read is kept; nowhere unless given.
    pub cache: Option<CacheOptions>,
    /// Variables such as `AWS_ACCESS_KEY_ID`, in place of those of the process.
    pub environment: Option<BTreeMap<String, String>>,
}

/// A folder that keeps what was read from other machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheOptions {
    /// The folder, made where there is none. Several processes may use one at a time.
    pub folder: PathBuf,
    /// Most bytes in it. What was not used for the longest time makes room.
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
