//! `--remote-…`: how other machines are read, the same for all sources of a command.

use std::path::PathBuf;
use std::time::Duration;

use dinolab_data::source::{CacheOptions, RemoteOptions};

/// Flags that every command has.
#[derive(clap::Args)]
#[command(next_help_heading = "Images at s3://, gs://, az:// and https:// locations")]
pub struct RemoteArgs {
    /// Cache everything read in this folder, for later epochs and runs; several programs may share
    /// it [default: no cache]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "DINOLAB_REMOTE_CACHE",
        hide_env_values = true
    )]
    remote_cache: Option<PathBuf>,
    /// Maximum size of --remote-cache in MiB; the least recently used entries are removed
    #[arg(
        long,
        global = true,
        value_name = "MIB",
        env = "DINOLAB_REMOTE_CACHE_MB",
        hide_env_values = true,
        default_value_t = 20_480
    )]
    remote_cache_mb: u64,
    /// Number of attempts per request before the command fails
    #[arg(long, global = true, value_name = "N", default_value_t = RemoteOptions::default().attempts,
        value_parser = clap::value_parser!(u32).range(1..))]
    remote_attempts: u32,
    /// Seconds without receiving a byte after which an attempt fails
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 30.0, value_parser = seconds)]
    remote_timeout: f64,
}

impl RemoteArgs {
    /// In the library's words.
    pub fn options(&self) -> RemoteOptions {
        let defaults = RemoteOptions::default();
        let stall_timeout = Duration::from_secs_f64(self.remote_timeout);
        RemoteOptions {
            attempts: self.remote_attempts,
            connect_timeout: defaults.connect_timeout.min(stall_timeout),
            stall_timeout,
            request_timeout: defaults.request_timeout.max(10 * stall_timeout),
            cache: self.remote_cache.clone().map(|folder| CacheOptions {
                folder,
                bytes: self.remote_cache_mb.saturating_mul(1 << 20),
            }),
            ..defaults
        }
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value = text.parse().ok();
    value
        .filter(|value| (0.1..=3600.0).contains(value))
        .ok_or_else(|| "must be between 0.1 and 3600".into())
}
