//! The search for lost processes.
//!
//! A thread of each process exchanges beats with rank 0 over a communicator of its own, whatever the
//! other threads do. A second thread, which never calls MPI, so that nothing can block it, measures how
//! long each process has been silent and ends the run when that is too long.
//!
//! Rank 0 hears all others, and they hear rank 0. If two other processes cannot reach each other, only
//! their MPI library can find that out.

mod beats;
mod silence;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::Communicator as _;

use self::beats::Beats;
use self::silence::Silence;
use super::{end, index};
use crate::Error;

/// What the threads of the watch know.
struct Shared {
    /// Messages that arrived from each watched process.
    heard: Vec<AtomicU32>,
    /// This process is leaving: the beats end after a farewell.
    leaving: AtomicBool,
    /// The rank of a lost process, or [`Shared::NONE`].
    lost: AtomicUsize,
    /// The other processes were told to end.
    told: AtomicBool,
    /// MPI is finalised; the watch is over.
    over: AtomicBool,
}

impl Shared {
    const NONE: usize = usize::MAX;

    fn lost(&self) -> Option<usize> {
        Some(self.lost.load(Ordering::Acquire)).filter(|&lost| lost != Shared::NONE)
    }
}

/// A communicator that may move to another thread.
struct Movable(SimpleCommunicator);

// SAFETY: a communicator's handle is not bound to a thread: with MPI_THREAD_MULTIPLE, which `Mpi::init`
// makes sure of, any thread may use it.
unsafe impl Send for Movable {}

/// The threads that watch, of a process that has others to watch.
pub(super) struct Watch {
    shared: Arc<Shared>,
    beats: Option<JoinHandle<()>>,
    judge: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts watching the processes of `comm`, which nobody else uses.
    pub(super) fn start(comm: SimpleCommunicator, timeout: Duration) -> io::Result<Watch> {
        let (rank, size) = (index(comm.rank()), index(comm.size()));
        let watched: Vec<usize> = if rank == 0 {
            (1..size).collect()
        } else {
            vec![0]
        };
        let shared = Arc::new(Shared {
            heard: watched.iter().map(|_| AtomicU32::new(0)).collect(),
            leaving: AtomicBool::new(false),
            lost: AtomicUsize::new(Shared::NONE),
            told: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let mut watch = Watch {
            shared: Arc::clone(&shared),
            beats: None,
            judge: None,
        };
        if watched.is_empty() {
            return Ok(watch);
        }
        let comm = Movable(comm);
        let interval = (timeout / 5).min(Duration::from_secs(2));
        let (beating, peers) = (Arc::clone(&shared), watched.clone());
        watch.beats = Some(thread::Builder::new().name("beats".into()).spawn(move || {
            // The whole wrapper moves, not only the field.
            let comm = comm;
            Beats::new(comm.0, &peers, interval).run(&beating);
        })?);
        watch.judge = Some(
            thread::Builder::new()
                .name("watch".into())
                .spawn(move || judge(&shared, &watched, rank, timeout))?,
        );
        Ok(watch)
    }

    /// Ends the beats; all processes have to be leaving. Those that stay silent while MPI is finalised
    /// are lost as before.
    pub(super) fn leave(&mut self) {
        self.shared.leaving.store(true, Ordering::Release);
        if let Some(beats) = self.beats.take() {
            beats.thread().unpark();
            let _ = beats.join();
        }
    }

    /// Ends the watch, after MPI was finalised.
    pub(super) fn stop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(judge) = self.judge.take() {
            judge.thread().unpark();
            let _ = judge.join();
        }
    }
}

/// Ends the run once one of `watched` has been silent for `timeout`.
fn judge(shared: &Shared, watched: &[usize], rank: usize, timeout: Duration) {
    let tick = (timeout / 20).min(Duration::from_millis(250));
    let mut silence = Silence::new(watched.len(), tick * 4);
    let mut then = Instant::now();
    loop {
        thread::park_timeout(tick);
        if shared.over.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        let heard = shared
            .heard
            .iter()
            .map(|heard| heard.load(Ordering::Acquire));
        let silent = silence.pass(now - then, heard);
        then = now;
        if let Some(peer) = silent
            .filter(|&(_, time)| time >= timeout)
            .map(|(peer, _)| peer)
        {
            let lost = watched[peer];
            shared.lost.store(lost, Ordering::Release);
            if rank == 0 {
                wait_until_told(shared);
            }
            let message = format!(
                "error: rank {lost} has not been heard of for {} s; run the same command again to resume",
                timeout.as_secs_f32()
            );
            end::end_all(Error::LOST, Some(message));
        }
    }
}

/// Gives the beats a second to tell the other processes, some of which may not be reached.
fn wait_until_told(shared: &Shared) {
    for _ in 0..20 {
        if shared.told.load(Ordering::Acquire) {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
}
