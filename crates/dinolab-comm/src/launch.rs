//! How this process was started, from its environment.

mod error;
mod family;
mod slurm;
#[cfg(test)]
mod tests;

use std::env;

pub use self::error::{Expected, LaunchError};
use self::family::{Family, Variables};

/// A process that was started as one of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// This process, in `0..size`.
    pub rank: usize,
    /// Number of processes, at least 2.
    pub size: usize,
    /// This process among those of its machine.
    pub local_rank: usize,
    /// Number of processes on this machine, if the launcher passes it on.
    pub local_size: Option<usize>,
    /// The launcher: `torchrun`, `mpirun`, `mpiexec` or `srun`.
    pub by: &'static str,
}

const TORCHRUN: Family = Family {
    by: "torchrun",
    rank: "RANK",
    size: "WORLD_SIZE",
    local_rank: "LOCAL_RANK",
    local_size: Some("LOCAL_WORLD_SIZE"),
};

/// Open MPI.
const MPIRUN: Family = Family {
    by: "mpirun",
    rank: "OMPI_COMM_WORLD_RANK",
    size: "OMPI_COMM_WORLD_SIZE",
    local_rank: "OMPI_COMM_WORLD_LOCAL_RANK",
    local_size: Some("OMPI_COMM_WORLD_LOCAL_SIZE"),
};

/// MPICH and Intel MPI.
const MPIEXEC: Family = Family {
    by: "mpiexec",
    rank: "PMI_RANK",
    size: "PMI_SIZE",
    local_rank: "MPI_LOCALRANKID",
    local_size: Some("MPI_LOCALNRANKS"),
};

impl Launch {
    /// How this process was started, or `None` if nothing shows that it is one of several.
    ///
    /// # Errors
    /// [`LaunchError`] if a launcher's variables are incomplete or unreadable.
    pub fn from_env() -> Result<Option<Launch>, LaunchError> {
        Launch::find(|name| env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// As [`Launch::from_env`], for the environment that `variable` looks up.
    ///
    /// # Errors
    /// As [`Launch::from_env`].
    pub fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Launch>, LaunchError> {
        let variables = Variables(&variable);
        // In an allocation of Slurm, `mpirun` and `mpiexec` start one of their daemons on each node by
        // `srun`. Their processes inherit the SLURM_PROCID and SLURM_STEP_NUM_TASKS of these daemons, so
        // Slurm comes last.
        let families = [
            Family::torchrun,
            Family::mpirun,
            Family::mpiexec,
            slurm::find,
        ];
        let mut alone = false;
        for find in families {
            match find(&variables)? {
                Some(launch) if launch.size > 1 => return Ok(Some(launch)),
                // A single process of one launcher can be, or contain, one of several of another.
                launch => alone |= launch.is_some(),
            }
        }
        match variables.get("PMIX_RANK") {
            // PMIx gives the number of processes through its library only.
            Some(rank) if !alone => Err(LaunchError::UnknownSize(rank)),
            _ => Ok(None),
        }
    }

    /// Whether a launcher of MPI programs started this process: `mpirun`, `mpiexec` or `srun`.
    #[must_use]
    pub fn by_mpi(&self) -> bool {
        self.by != TORCHRUN.by
    }
}

impl Family {
    fn torchrun(variables: &Variables<'_>) -> Result<Option<Launch>, LaunchError> {
        TORCHRUN.find(variables)
    }

    fn mpirun(variables: &Variables<'_>) -> Result<Option<Launch>, LaunchError> {
        MPIRUN.find(variables)
    }

    fn mpiexec(variables: &Variables<'_>) -> Result<Option<Launch>, LaunchError> {
        // `srun --mpi=pmi2` and HPE Cray systems set PMI_RANK and PMI_SIZE as well, with other variables
        // for the local rank.
        if variables.get(MPIEXEC.local_rank).is_some() {
            return MPIEXEC.find(variables);
        }
        let cray = Family {
            local_rank: "PMI_LOCAL_RANK",
            local_size: Some("PMI_LOCAL_SIZE"),
            ..MPIEXEC
        };
        if variables.get(cray.local_rank).is_some() {
            return cray.find(variables);
        }
        if slurm::is_step(variables) {
            Ok(None)
        } else {
            MPIEXEC.find(variables)
        }
    }
}
