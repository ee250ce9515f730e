//! The asynchronous runtime, which nothing else uses.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

/// Threads that move bytes; they never decode.
const THREADS: usize = 2;

/// Waits for `work`. Called by threads that may block, such as the loader's readers.
pub(super) fn wait<T>(work: impl Future<Output = T>) -> io::Result<T> {
    static RUNTIME: OnceLock<io::Result<Runtime>> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("dinolab-net")
            .enable_all()
            .build()
    });
    match runtime {
        Ok(runtime) => Ok(runtime.block_on(work)),
        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
    }
}
