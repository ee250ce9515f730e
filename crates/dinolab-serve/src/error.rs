//! What can go wrong before the page is served.

use std::net::SocketAddr;
use std::path::PathBuf;

/// A failure to serve the page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A folder that is not one of a run.
    #[error("{}: not a run folder: found neither config.toml nor metrics.jsonl", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
    },
    /// No run was given.
    #[error("no run to show")]
    NoRun,
    /// The address is in use or not this machine's.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The program that holds the page beside a run cannot be started.
    #[error("{}: cannot start the page of the run; train without `--view`", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The page beside a run ended before it had an address; it has said why.
    #[error("the page of the run could not be served; train without `--view`, or free an address")]
    NoAddress,
    /// The operating system gives no random numbers.
    #[error("cannot make a token: {0}")]
    Random(String),
    /// Serving ended.
    #[error("cannot serve the page")]
    Serve(#[source] std::io::Error),
}

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
