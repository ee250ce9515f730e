//! Checks the collective operations over MPI and shows what happens when processes are lost:
//!
//! ```sh
//! mpirun -n 4 collectives check
//! mpirun -n 2 collectives bandwidth 20          # sums of 20 MB until interrupted
//! mpirun -n 2 collectives bandwidth 20 tree     # the same along a tree
//! mpirun -n 2 collectives stop --timeout 2      # the last process is stopped
//! mpirun -n 2 collectives compute --timeout 2   # the last process does not communicate for three timeouts
//! ```
//!
//! In the last process, `kill` sends SIGKILL, `abort` ends the run with exit code 75, and `panic` panics.

mod check;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dinolab_comm::mpi::Mpi;
use dinolab_comm::{Communicator, Error, Launch};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let launch = Launch::from_env();
    match run(
        &env::args().skip(1).collect::<Vec<_>>(),
        launch.ok().flatten(),
    ) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[String], launch: Option<Launch>) -> Result<()> {
    let (args, timeout) = match args {
        [args @ .., flag, seconds] if flag == "--timeout" => {
            (args, Duration::try_from_secs_f64(seconds.parse()?)?)
        }
        _ => (args, Mpi::TIMEOUT),
    };
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let mpi = Mpi::init(timeout)?;
    let is_last = mpi.rank() + 1 == mpi.size();
    match args[..] {
        ["check"] => check::all(mpi, launch),
        ["bandwidth", megabytes] => bandwidth(&mpi, megabytes.parse()?, |values| mpi.all_reduce(values)),
        ["bandwidth", megabytes, "tree"] => bandwidth(&mpi, megabytes.parse()?, |values| mpi.all_reduce_tree(values)),
        [task @ ("stop" | "kill")] => {
            if is_last {
                let signal = if task == "stop" { libc::SIGSTOP } else { libc::SIGKILL };
                // SAFETY: takes and returns numbers only.
                unsafe { libc::raise(signal) };
            }
            Ok(mpi.barrier()?)
        }
        ["compute"] => {
            if is_last {
                let start = Instant::now();
                while start.elapsed() < 3 * timeout {}
            }
            Ok(mpi.barrier()?)
        }
        ["abort"] => {
            if is_last {
                mpi.abort(Error::LOST);
            }
            Ok(mpi.barrier()?)
        }
        ["panic"] => {
            assert!(!is_last, "the last process panics");
            Ok(mpi.barrier()?)
        }
        _ => Err("expected check, bandwidth MB, bandwidth MB tree, stop, kill, compute, abort or panic, then --timeout SECONDS".into()),
    }
}

/// Sums so many megabytes again and again, and prints every second how fast.
fn bandwidth(
    mpi: &Mpi,
    megabytes: usize,
    sum: impl Fn(&mut [f32]) -> dinolab_comm::Result<()>,
) -> Result<()> {
    let mut values = vec![0.0; megabytes * 1_000_000 / 4];
    println!(
        "rank {} of {}: process {}",
        mpi.rank(),
        mpi.size(),
        std::process::id()
    );
    let (mut start, mut sums) = (Instant::now(), 0);
    loop {
        sum(&mut values)?;
        sums += 1;
        if mpi.rank() == 0 && start.elapsed() >= Duration::from_secs(1) {
            let rate = (sums * megabytes) as f64 / start.elapsed().as_secs_f64();
            println!("{sums} sums of {megabytes} MB: {rate:.1} MB/s");
            (start, sums) = (Instant::now(), 0);
        }
    }
}
