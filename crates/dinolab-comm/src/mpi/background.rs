//! Sums in a thread of their own, one after the other, while the processes compute.
//!
//! The thread lets MPI work every now and then, and sleeps in between: the library's own waiting would
//! keep a core from the computation. Once nothing is computed, it no longer sleeps.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ::mpi::collective::SystemOperation;
use ::mpi::request::{self, Request, Scope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{
    Communicator as _, CommunicatorCollectives as _, Destination as _, Source as _,
};

use super::{count, end, index, world};
use crate::{Error, Order, PendingSum, tree};

/// Time in which MPI does nothing.
const PAUSE: Duration = Duration::from_millis(1);
/// How often MPI is called after that: each call passes on some ten kilobytes.
const CALLS: usize = 16;

struct Job {
    values: Vec<f32>,
    order: Order,
    /// Elements of one operation of MPI.
    message: usize,
    done: Sender<Vec<f32>>,
}

/// What the threads know of each other.
#[derive(Default)]
struct Open {
    /// The number of sums that have begun and not ended.
    count: Mutex<usize>,
    ended: Condvar,
    /// The number of threads that wait for one.
    waiting: AtomicUsize,
}

impl Open {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits without sleep of the thread that adds.
    fn hurry<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waited = wait();
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        waited
    }

    fn end<'a, D: ?Sized, S: Scope<'a>>(&self, mut request: Request<'a, D, S>) {
        for call in 1_usize.. {
            match request.test() {
                Ok(_) => return,
                Err(unfinished) => request = unfinished,
            }
            if self.waiting.load(Ordering::Relaxed) > 0 {
                thread::yield_now();
            } else if call.is_multiple_of(CALLS) {
                thread::sleep(PAUSE);
            }
        }
    }
}

/// The thread that adds.
pub(super) struct Background {
    /// Taken to end the thread.
    jobs: Option<Sender<Job>>,
    open: Arc<Open>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    pub(super) fn start() -> io::Result<Self> {
        let open = Arc::new(Open::default());
        let (jobs, inbox) = mpsc::channel::<Job>();
        let shared = Arc::clone(&open);
        let work = move || {
            let mut sums = Vec::new();
            for mut job in inbox {
                let added = catch_unwind(AssertUnwindSafe(|| add(&shared, &mut job, &mut sums)));
                if added.is_err() {
                    // The others wait in the operation. 101 is the exit code of a panic.
                    end::end_all(101, None);
                }
                // Whoever has given up waiting does not need them.
                let _ = job.done.send(job.values);
                *shared.count() -= 1;
                shared.ended.notify_all();
            }
        };
        let thread = thread::Builder::new().name("sums".into()).spawn(work)?;
        Ok(Self {
            jobs: Some(jobs),
            open,
            thread: Some(thread),
        })
    }

    pub(super) fn begin(&self, values: Vec<f32>, order: Order, message: usize) -> PendingSum {
        let (done, sums) = mpsc::channel();
        *self.open.count() += 1;
        let job = Job {
            values,
            order,
            message,
            done,
        };
        let jobs = self.jobs.as_ref().expect("taken at the end");
        jobs.send(job).expect("the thread ends with this");
        let open = Arc::clone(&self.open);
        PendingSum::running(move || {
            let sums = open.hurry(|| sums.recv());
            sums.map_err(|_| Error::Mpi("the thread that adds has ended".into()))
        })
    }

    /// Waits until all sums that have begun have ended: other operations may not come between them, since
    /// their order has to be the same in all processes.
    pub(super) fn settle(&self) {
        let open = &self.open;
        open.hurry(|| {
            let mut count = open.count();
            while *count > 0 {
                let waited = open.ended.wait(count);
                count = waited.unwrap_or_else(PoisonError::into_inner);
            }
        });
    }

    /// Ends the thread, after what it has begun.
    pub(super) fn stop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn add(open: &Open, job: &mut Job, sums: &mut Vec<f32>) {
    let world = world();
    for part in job.values.chunks_mut(job.message) {
        match job.order {
            Order::Any => {
                sums.resize(part.len(), 0.0);
                let sums = &mut sums[..];
                let sum = SystemOperation::sum();
                request::scope(|scope| {
                    open.end(world.immediate_all_reduce_into(scope, &*part, &mut *sums, sum));
                });
                part.copy_from_slice(sums);
            }
            Order::Tree => {
                let (rank, size) = (index(world.rank()), index(world.size()));
                tree::all_reduce(rank, size, part, |partner, given, taken| {
                    exchange(open, &world, partner, given, taken);
                });
            }
        }
    }
}

fn exchange(
    open: &Open,
    world: &SimpleCommunicator,
    partner: usize,
    given: &[f32],
    taken: &mut [f32],
) {
    let partner = world.process_at_rank(count(partner));
    request::scope(|scope| {
        let receipt = partner.immediate_receive_into(scope, taken);
        let delivery = partner.immediate_send(scope, given);
        open.end(receipt);
        open.end(delivery);
    });
}
