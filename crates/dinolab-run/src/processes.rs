//! The processes that a run is trained by.

use std::fmt;
#[cfg(feature = "nccl")]
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use dinolab_comm::{Communicator, Launch, Local};
use dinolab_nn::{Device, device};
use dinolab_train::Ranks;

#[cfg(feature = "nccl")]
use crate::environment::Environment;
use crate::error::{Error, Result};
#[cfg(feature = "nccl")]
use crate::event::Event;
use crate::settings::Config;

/// The processes of a run, as one of them sees them.
#[derive(Clone)]
pub struct Processes {
    comm: Rc<dyn Communicator>,
    /// This process among those of its machine.
    local_rank: usize,
    /// Threads of this process, if the machine's are divided.
    threads: Option<usize>,
}

/// One process.
impl Default for Processes {
    fn default() -> Self {
        Self {
            comm: Rc::new(Local),
            local_rank: 0,
            threads: None,
        }
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} of {}", self.comm.rank(), self.comm.size())
    }
}

impl Processes {
    /// Those that `mpirun` or `srun` started, connected by MPI; this one alone if nothing did. Divides the
    /// machine's threads among its processes, so call it before anything computes.
    ///
    /// # Errors
    /// One of several processes without the feature `mpi`; MPI that does not start, or is not that of
    /// the launcher.
    pub fn launched() -> Result<Self> {
        let launch = Launch::from_env().map_err(|error| Error::Invalid(error.to_string()))?;
        let Some(launch) = launch else {
            return Ok(Self::default());
        };
        let connected = Self::connected(&launch);
        if connected.is_err() && launch.rank > 0 {
            leave_the_word();
        }
        connected
    }

    #[cfg(not(feature = "mpi"))]
    fn connected(launch: &Launch) -> Result<Self> {
        Err(Error::Invalid(format!(
            "{} started {} processes, but this build has no MPI, which connects them: build it with Cargo's \
             feature mpi, or start one process",
            launch.by, launch.size
        )))
    }

    #[cfg(feature = "mpi")]
    fn connected(launch: &Launch) -> Result<Self> {
        use dinolab_comm::mpi::Mpi;

        if !launch.by_mpi() {
            bail!(
                "{} started {} processes, which are connected by MPI here: start them with mpirun or srun",
                launch.by,
                launch.size
            );
        }
        let failed = |error: dinolab_comm::Error| Error::Train(error.into());
        let mpi = Mpi::init(Mpi::TIMEOUT).map_err(failed)?;
        if mpi.size() != launch.size {
            bail!(
                "{} started {} processes, but this build's MPI sees {}: build with the MPI whose {} is used",
                launch.by,
                launch.size,
                mpi.size(),
                launch.by
            );
        }
        let threads = own_threads(mpi.local_size());
        // Fails if threads have been started already: they are too many, and slower.
        let _ = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build_global();
        Ok(Self {
            local_rank: mpi.local_rank(),
            threads: Some(threads),
            comm: Rc::new(mpi),
        })
    }

    /// Those of an own communicator, of which this one is number `local_rank` on its machine.
    pub fn of(comm: Rc<dyn Communicator>, local_rank: usize) -> Self {
        Self {
            comm,
            local_rank,
            threads: None,
        }
    }

    /// Passes on how this process' work has ended. One that failed leaves its run without waiting for the
    /// others: its launcher, or their watch, ends those.
    pub fn ended<T, E>(&self, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() && self.count() > 1 {
            if !self.leads() {
                leave_the_word();
            }
            // The last owner would wait for all.
            std::mem::forget(self.comm.clone());
        }
        result
    }

    /// Number of processes.
    pub fn count(&self) -> usize {
        self.comm.size()
    }

    /// Whether this is the process that prints, writes and evaluates.
    pub fn leads(&self) -> bool {
        self.comm.rank() == 0
    }

    /// The collective operations.
    pub fn comm(&self) -> &dyn Communicator {
        &*self.comm
    }

    pub(crate) fn shared(&self) -> Rc<dyn Communicator> {
        self.comm.clone()
    }

    /// Threads of this process, if the machine's are divided.
    pub(crate) fn threads(&self) -> Option<usize> {
        self.threads
    }

    /// How a run of this configuration sums over its processes.
    pub(crate) fn ranks(&self, config: &Config) -> Result<Ranks> {
        let comm = self.comm.clone();
        Ok(match config.reproducible_ranks {
            0 => Ranks::new(comm),
            shards => Ranks::reproducible(comm, shards)?,
        })
    }

    /// The device of this process: of GPUs, which have numbers, each process of a machine gets one,
    /// counted from the one that is named.
    pub(crate) fn device(&self, name: &str) -> Result<Device> {
        Ok(device::by_name(&self.device_name(name))?)
    }

    /// Sums of `ranks` between the NVIDIA GPUs of all processes, of which this one has the numbered device `name`, if
    /// this build and every process has NCCL. All processes call it.
    ///
    /// # Errors
    /// Processes that cannot agree, or whose GPUs cannot be connected.
    #[cfg(feature = "nccl")]
    pub(crate) fn over_gpus(
        &self,
        env: &Environment<'_>,
        ranks: Ranks,
        name: &str,
    ) -> Result<Ranks> {
        use dinolab_comm::nccl::Nccl;

        let own = self.device_name(name);
        let gpu = own.strip_prefix("cuda:").and_then(|gpu| gpu.parse().ok());
        let failed = |error: dinolab_comm::Error| Error::Train(error.into());
        // Devices belong to machines, and may differ.
        let can = gpu.is_some() && Nccl::is_available();
        let all = self.comm.all_gather(&[u8::from(can)]).map_err(failed)?;
        let (ranks, note) = match (gpu, all.iter().position(|can| *can != [1])) {
            (Some(gpu), None) => {
                let nccl = Nccl::connect(self.comm.clone(), gpu).map_err(failed)?;
                let note = "sums gradients between the GPUs".to_owned();
                (ranks.over(Rc::new(nccl)), note)
            }
            (Some(_), Some(without)) => {
                let note = format!("process {without} cannot load it: gradients are summed by MPI");
                (ranks, note)
            }
            (None, _) => return Ok(ranks),
        };
        let source = Path::new("NCCL");
        env.events.hear(Event::Note {
            source,
            note: &note,
        });
        Ok(ranks)
    }

    fn device_name(&self, name: &str) -> String {
        let numbered = name.split_once(':');
        let numbered =
            numbered.and_then(|(kind, number)| Some((kind, number.parse::<usize>().ok()?)));
        match numbered {
            Some((kind, first)) => format!("{kind}:{}", first + self.local_rank),
            None => name.to_owned(),
        }
    }
}

/// Waits a moment before this process says what is wrong: if all fail alike, the first one says so, and the
/// launcher ends the others.
fn leave_the_word() {
    std::thread::sleep(Duration::from_secs(2));
}

/// The threads of one of `processes` on this machine. Launchers bind each process to some cores, or
/// leave all of them to all.
#[cfg(any(feature = "mpi", test))]
fn own_threads(processes: usize) -> usize {
    let allowed = std::thread::available_parallelism().map_or(1, usize::from);
    share_of(allowed, online(), processes)
}

#[cfg(any(feature = "mpi", test))]
fn share_of(allowed: usize, online: Option<usize>, processes: usize) -> usize {
    match online {
        Some(online) if allowed < online => allowed,
        _ => (allowed / processes.max(1)).max(1),
    }
}

/// Processors of the machine, where the system lists them: `0-3,8`.
#[cfg(any(feature = "mpi", test))]
fn online() -> Option<usize> {
    let listed = std::fs::read_to_string("/sys/devices/system/cpu/online").ok()?;
    let range = |range: &str| -> Option<usize> {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(last.parse::<usize>().ok()? + 1 - first.parse::<usize>().ok()?)
    };
    listed.trim().split(',').map(range).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_follow_the_place_on_the_machine() {
        let second = Processes::of(Rc::new(Local), 1);
        for (named, own) in [
            ("cuda:0", "cuda:1"),
            ("vulkan:2", "vulkan:3"),
            ("cpu", "cpu"),
            ("metal", "metal"),
        ] {
            assert_eq!(second.device_name(named), own);
            assert_eq!(Processes::default().device_name(named), named);
        }
    }

    #[test]
    fn threads_are_divided_unless_the_launcher_has() {
        assert_eq!(share_of(16, Some(16), 4), 4);
        assert_eq!(share_of(16, None, 4), 4);
        assert_eq!(share_of(4, Some(16), 4), 4);
        assert_eq!(share_of(2, Some(2), 4), 1);
        assert!(own_threads(1) >= 1);
        assert!(online().is_none_or(|count| count > 0));
    }
}
