//! Runs `examples/collectives` under Open MPI's `mpirun`.
#![cfg(feature = "mpi")]

use std::env;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use dinolab_comm::Error;

/// Tests that time other processes take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The outcome of a run, and how long it took.
struct Run {
    output: Output,
    took: Duration,
}

impl Run {
    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    #[track_caller]
    fn assert_code(&self, code: i32) {
        assert_eq!(self.output.status.code(), Some(code), "{}", self.stderr());
    }
}

/// `cargo test` puts examples beside the folder of the tests.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test
        .ancestors()
        .nth(2)
        .unwrap()
        .join("examples/collectives");
    assert!(
        path.exists(),
        "{} is missing; build it with the profile of the tests: \
         cargo build --release -p dinolab-comm --features mpi --example collectives",
        path.display()
    );
    path
}

fn mpirun(processes: usize, args: &[&str]) -> Run {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new("mpirun");
    // Containers may forbid one process to read another's memory.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1");
    command.env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    command.args([
        "--oversubscribe",
        "--bind-to",
        "none",
        "-n",
        &processes.to_string(),
    ]);
    let start = Instant::now();
    match command.arg(example()).args(args).output() {
        Ok(output) => Run {
            output,
            took: start.elapsed(),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!(
                "mpirun was not found; install Open MPI (Debian and Ubuntu: apt install openmpi-bin libopenmpi-dev)"
            )
        }
        Err(error) => panic!("mpirun: {error}"),
    }
}

#[test]
fn all_operations_are_right() {
    for processes in [1, 2, 3, 4] {
        let run = mpirun(processes, &["check"]);
        run.assert_code(0);
        let expected = format!("{processes} processes agree");
        assert!(
            String::from_utf8_lossy(&run.output.stdout).contains(&expected),
            "{}",
            run.stderr()
        );
    }
}

#[test]
fn a_stopped_process_ends_the_run() {
    for processes in [2, 3] {
        let run = mpirun(processes, &["stop", "--timeout", "2"]);
        run.assert_code(Error::LOST);
        let expected = format!(
            "error: rank {} has not been heard of for 2 s; run the same command again to resume",
            processes - 1
        );
        assert!(run.stderr().contains(&expected), "{}", run.stderr());
        assert!(
            run.took > Duration::from_secs(2) && run.took < Duration::from_secs(20),
            "{:?}",
            run.took
        );
    }
}

#[test]
fn a_process_that_computes_is_not_lost() {
    let run = mpirun(2, &["compute", "--timeout", "2"]);
    run.assert_code(0);
    assert!(run.took > Duration::from_secs(6), "{:?}", run.took);
}

#[test]
fn an_abort_ends_all_processes() {
    mpirun(3, &["abort"]).assert_code(Error::LOST);
}

#[test]
fn a_panic_ends_all_processes() {
    let run = mpirun(3, &["panic"]);
    run.assert_code(101);
    assert!(
        run.stderr().contains("the last process panics"),
        "{}",
        run.stderr()
    );
}

#[test]
fn a_killed_process_ends_the_run() {
    let run = mpirun(3, &["kill"]);
    assert!(!run.output.status.success());
    assert!(run.took < Duration::from_secs(20), "{:?}", run.took);
}
