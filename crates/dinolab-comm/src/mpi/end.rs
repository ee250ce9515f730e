//! The end of all processes at once.

use std::thread;
use std::time::Duration;

use ::mpi::ffi;

/// How long the launcher may take to end a process before the process ends itself.
pub(super) const GRACE: Duration = Duration::from_secs(3);

/// Ends all processes with `code`, after printing `message` to stderr.
///
/// `MPI_Abort` waits for the launcher, and a write to stderr for its reader: without a network neither
/// need return. Both run in a thread of their own, and this process ends after [`GRACE`] in any case.
pub(super) fn end_all(code: i32, message: Option<String>) -> ! {
    let abort = move || {
        if let Some(message) = message {
            eprintln!("{message}");
        }
        // SAFETY: only called between `MPI_Init_thread` and `MPI_Finalize`, with MPI_THREAD_MULTIPLE, so
        // any thread may call it whatever the others do. The handle is a constant of the library.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
    };
    // Without memory for a thread, what remains is to end this process.
    let _ = thread::Builder::new().name("abort".into()).spawn(abort);
    end_self(code)
}

/// Ends this process with `code` after [`GRACE`], in which the launcher may end it.
pub(super) fn end_self(code: i32) -> ! {
    thread::sleep(GRACE);
    // SAFETY: takes no pointers and does not return. Unlike `exit` it runs no handlers, which could wait
    // for locks that other threads hold in MPI.
    unsafe { libc::_exit(code) }
}
