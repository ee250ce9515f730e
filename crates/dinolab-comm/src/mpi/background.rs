//! Sums in a thread of their own, one after the other, while the processes compute.
//!
//! The thread asks MPI every now and then whether an operation has ended, and sleeps in between: the
//! library's own waiting would keep a core from the computation.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
use crate::{Order, PendingSum, tree};

/// Time between two looks at an operation.
const PAUSE: Duration = Duration::from_micros(100);

struct Job {
    values: Vec<f32>,
    order: Order,
    /// Elements of one operation of MPI.
    message: usize,
    done: Sender<Vec<f32>>,
}

/// The number of sums that have begun and not ended.
#[derive(Default)]
struct Open {
    count: Mutex<usize>,
    ended: Condvar,
}

impl Open {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
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
                let added = catch_unwind(AssertUnwindSafe(|| add(&mut job, &mut sums)));
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
        PendingSum::running(sums)
    }

    /// Waits until all sums that have begun have ended: other operations may not come between them, since
    /// their order has to be the same in all processes.
    pub(super) fn settle(&self) {
        let mut count = self.open.count();
        while *count > 0 {
            let waited = self.open.ended.wait(count);
            count = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Ends the thread, after what it has begun.
    pub(super) fn stop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn add(job: &mut Job, sums: &mut Vec<f32>) {
    let world = world();
    for part in job.values.chunks_mut(job.message) {
        match job.order {
            Order::Any => {
                sums.resize(part.len(), 0.0);
                let sums = &mut sums[..];
                let sum = SystemOperation::sum();
                request::scope(|scope| {
                    wait(world.immediate_all_reduce_into(scope, &*part, &mut *sums, &sum));
                });
                part.copy_from_slice(sums);
            }
            Order::Tree => {
                let (rank, size) = (index(world.rank()), index(world.size()));
                tree::all_reduce(rank, size, part, |partner, given, taken| {
                    exchange(&world, partner, given, taken);
                });
            }
        }
    }
}

fn exchange(world: &SimpleCommunicator, partner: usize, given: &[f32], taken: &mut [f32]) {
    let partner = world.process_at_rank(count(partner));
    request::scope(|scope| {
        let receipt = partner.immediate_receive_into(scope, taken);
        let delivery = partner.immediate_send(scope, given);
        wait(receipt);
        wait(delivery);
    });
}

fn wait<'a, D: ?Sized, S: Scope<'a>>(mut request: Request<'a, D, S>) {
    while let Err(unfinished) = request.test() {
        request = unfinished;
        thread::sleep(PAUSE);
    }
}
