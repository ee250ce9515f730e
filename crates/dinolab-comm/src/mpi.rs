//! Processes started by `mpirun` or `srun`.
//!
//! Two settings of Open MPI are worth knowing. A process that waits for others keeps a core busy; if
//! there is other work for its cores, `mpirun --mca mpi_yield_when_idle 1` lets that go first. Over TCP,
//! `--mca btl_tcp_flags send,inplace` lets large messages travel in both directions at a time.

mod background;
mod end;
mod watch;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ::mpi::collective::SystemOperation;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::{Threading, Universe};
use ::mpi::point_to_point::send_receive_into;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};

use self::background::Background;
use self::watch::Watch;
use crate::{Communicator, Error, Order, PendingSum, Result, tree};

/// Elements of one operation of MPI, whose counts are 32-bit integers. Longer vectors take several
/// operations; an operation of this length is as fast per element as a longer one.
const MESSAGE: usize = 1 << 24;

/// The processes that an MPI launcher started.
///
/// Dropping it waits for the others to drop theirs, which must happen in the thread that called
/// [`Mpi::init`]. A process that fails on its own must therefore call [`Communicator::abort`], or the
/// others wait for it forever: it still shows signs of life. A panic that drops it aborts all processes
/// with exit code 101.
///
/// Threads may share it, as long as the operations of all threads have one order, the same in each
/// process.
pub struct Mpi {
    rank: usize,
    size: usize,
    local_rank: usize,
    local_size: usize,
    message: usize,
    /// Receives sums. Its lock also keeps operations of several threads apart.
    sums: Mutex<Vec<f32>>,
    background: Background,
    watch: Watch,
    /// Taken to finalise MPI.
    universe: Option<Universe>,
}

impl Mpi {
    /// Time without a sign of life after which a process counts as lost.
    pub const TIMEOUT: Duration = Duration::from_secs(20);

    /// Starts MPI and the watch for lost processes: if nothing is heard of a process for `timeout`, all
    /// processes end with exit code [`Error::LOST`], whatever they are doing. A process that computes
    /// without communicating is not lost. `timeout` should be a second or more.
    ///
    /// If the MPI library finds a broken connection before that, it ends the processes with an exit code
    /// of its own: 255 with Open MPI.
    ///
    /// # Errors
    /// [`Error::Started`] if MPI was started before in this process, [`Error::Threads`] if the MPI library
    /// does not support concurrent calls, and [`Error::Mpi`] if the threads of the watch cannot start.
    pub fn init(timeout: Duration) -> Result<Mpi> {
        let (universe, threading) =
            ::mpi::initialize_with_threading(Threading::Multiple).ok_or(Error::Started)?;
        if threading != Threading::Multiple {
            return Err(Error::Threads);
        }
        let world = universe.world();
        let (rank, size) = (index(world.rank()), index(world.size()));
        let no_thread = |error| Error::Mpi(format!("cannot start a thread: {error}"));
        let watch = Watch::start(world.duplicate(), timeout).map_err(no_thread)?;
        let background = Background::start().map_err(no_thread)?;
        let host = world.split_shared(world.rank());
        Ok(Mpi {
            rank,
            size,
            local_rank: index(host.rank()),
            local_size: index(host.size()),
            message: MESSAGE,
            sums: Mutex::default(),
            background,
            watch,
            universe: Some(universe),
        })
    }

    /// The same processes with at most `elements` elements in one operation of MPI, in all of them alike.
    ///
    /// # Panics
    /// If `elements` is 0 or exceeds `i32::MAX`.
    #[must_use]
    pub fn with_message(mut self, elements: usize) -> Mpi {
        assert!(
            elements > 0 && i32::try_from(elements).is_ok(),
            "{elements} elements in one operation"
        );
        self.message = elements;
        self
    }

    /// This process among those of its machine.
    #[must_use]
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// Number of processes on this machine.
    #[must_use]
    pub fn local_size(&self) -> usize {
        self.local_size
    }

    /// Waits for operations that other threads started before.
    fn turn(&self) -> MutexGuard<'_, Vec<f32>> {
        self.background.settle();
        // What a panic left in the buffer is overwritten.
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Communicator for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn all_reduce(&self, values: &mut [f32]) -> Result<()> {
        let mut sums = self.turn();
        sums.resize(values.len().min(self.message), 0.0);
        for part in values.chunks_mut(self.message) {
            let sums = &mut sums[..part.len()];
            world().all_reduce_into(&*part, sums, SystemOperation::sum());
            part.copy_from_slice(sums);
        }
        Ok(())
    }

    fn all_reduce_tree(&self, values: &mut [f32]) -> Result<()> {
        if !self.size.is_power_of_two() {
            return Err(Error::NotAPowerOfTwo(self.size));
        }
        let _turn = self.turn();
        let world = world();
        for part in values.chunks_mut(self.message) {
            tree::all_reduce(self.rank, self.size, part, |partner, given, taken| {
                let partner = world.process_at_rank(count(partner));
                send_receive_into(given, &partner, taken, &partner);
            });
        }
        Ok(())
    }

    fn begin_sum(&self, values: Vec<f32>, order: Order) -> Result<PendingSum> {
        if order == Order::Tree && !self.size.is_power_of_two() {
            return Err(Error::NotAPowerOfTwo(self.size));
        }
        Ok(self.background.begin(values, order, self.message))
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let _turn = self.turn();
        let mut lens = vec![0_u64; self.size];
        world().all_gather_into(&(own.len() as u64), &mut lens[..]);
        let lens: Vec<usize> = lens.into_iter().map(|len| len as usize).collect();
        // Positions in what all processes send together have to fit as well.
        let piece = (self.message / self.size).max(1);
        let mut all: Vec<_> = lens.iter().map(|&len| Vec::with_capacity(len)).collect();
        let mut received = Vec::new();
        for start in (0..lens.iter().copied().max().unwrap_or(0)).step_by(piece) {
            let counts: Vec<_> = lens
                .iter()
                .map(|len| count(len.saturating_sub(start).min(piece)))
                .collect();
            let starts: Vec<_> = counts
                .iter()
                .scan(0, |end, count| {
                    let start = *end;
                    *end += count;
                    Some(start)
                })
                .collect();
            received.resize(counts.iter().map(|&count| index(count)).sum(), 0_u8);
            let sent = &own[start.min(own.len())..(start + piece).min(own.len())];
            let mut parts = PartitionMut::new(&mut received[..], &counts[..], &starts[..]);
            world().all_gather_varcount_into(sent, &mut parts);
            for ((bytes, start), count) in all.iter_mut().zip(starts).zip(counts) {
                bytes.extend_from_slice(&received[index(start)..][..index(count)]);
            }
        }
        Ok(all)
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let _turn = self.turn();
        let world = world();
        let root = world.process_at_rank(0);
        let mut len = bytes.len() as u64;
        root.broadcast_into(&mut len);
        bytes.resize(len as usize, 0);
        for part in bytes.chunks_mut(self.message) {
            root.broadcast_into(part);
        }
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        let _turn = self.turn();
        world().barrier();
        Ok(())
    }

    fn abort(&self, code: i32) -> ! {
        end::end_all(code, None)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        if thread::panicking() {
            // The others may be in an operation that waits for this process; it is not lost, but it will
            // not take part. 101 is the exit code of a panic.
            end::end_all(101, None);
        }
        self.background.stop();
        // Once all are here, no process waits for a beat of another but to say goodbye.
        world().barrier();
        self.watch.leave();
        self.universe = None;
        self.watch.stop();
    }
}

fn world() -> SimpleCommunicator {
    SimpleCommunicator::world()
}

/// MPI's integers are 32-bit; what it counts here is not negative.
fn index(count: i32) -> usize {
    usize::try_from(count).expect("MPI counts from 0")
}

fn count(index: usize) -> i32 {
    i32::try_from(index).expect("pieces and ranks are 32-bit")
}

#[cfg(test)]
mod tests {
    use super::Mpi;

    #[test]
    fn threads_can_share_it() {
        fn shared<T: Send + Sync>() {}
        shared::<Mpi>();
    }
}
