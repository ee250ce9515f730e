//! A run that is ended from outside at any moment, in every way there is: no file is mixed or
//! half, no checkpoint is lost, and the resumed run equals the unbroken one bit for bit.
#![cfg(unix)]

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Train, assert_same, checkpoint_steps, one_error, text};
use dinolab_train::checkpoint::{Checkpoint, list};

/// Five steps an epoch, a checkpoint every three, and at every one of them something to say.
fn settings(out: &Path) -> Train {
    Train::tiny(out)
        .with("shapes-images", 40)
        .with("epochs", 12)
        .with("checkpoint-every-steps", 3)
        .with("eval-every", 4)
        .with("attention-images", 1)
}

/// Numbers that look random and are the same every time.
struct Draws(u64);

impl Draws {
    /// From 0 up to 1.
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// An unbroken run, and how long it took.
struct Unbroken {
    root: tempfile::TempDir,
    whole: PathBuf,
    took: Duration,
}

impl Unbroken {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let whole = root.path().join("whole");
        let began = Instant::now();
        settings(&whole).succeed();
        let took = began.elapsed();
        Self { root, whole, took }
    }

    /// Ends a run at random moments by `end`, which gets the moment and says how it went; then
    /// resumes it to its end and compares.
    fn rounds(&self, seed: u64, rounds: usize, end: impl Fn(&Path, Duration, &mut Draws)) {
        let mut draws = Draws(seed);
        for round in 0..rounds {
            let run = self.root.path().join(format!("run-{seed}-{round}"));
            // Twice, so that a resumed run is ended as well.
            for _ in 0..2 {
                let before = checkpoint_steps(&run).first().copied();
                let moment = self.took.mul_f64(0.9 * draws.share());
                end(&run, moment, &mut draws);
                self.check(&run, before);
            }
            settings(&run).succeed();
            assert_same(&self.whole, &run);
            let left = files(&run);
            let parts: Vec<_> = left
                .iter()
                .filter(|name| name.ends_with(".part") || name.ends_with(".tmp"))
                .collect();
            assert!(parts.is_empty(), "{parts:?}");
            // Steps at which it was stopped are saved in addition.
            let others = |names: Vec<String>| -> Vec<String> {
                let planned = |name: &String| !name.starts_with("checkpoints/step-");
                names.into_iter().filter(planned).collect()
            };
            assert_eq!(others(left), others(files(&self.whole)), "the same files");
            fs::remove_dir_all(&run).unwrap();
        }
    }

    /// What must hold whenever a run has ended: all checkpoints are whole, none is lost.
    fn check(&self, run: &Path, before: Option<u64>) {
        for path in list(&run.join("checkpoints")) {
            Checkpoint::read(&path).unwrap();
        }
        let after = checkpoint_steps(run).first().copied();
        assert!(after >= before, "{before:?} {after:?}");
        if let Ok(named) = fs::read_to_string(run.join("checkpoints/latest")) {
            assert!(run.join("checkpoints").join(named).exists());
        }
        let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default();
        let lines: Vec<&str> = metrics.lines().collect();
        let whole = fs::read_to_string(self.whole.join("metrics.jsonl")).unwrap();
        // A line that was cut off by the end of the process may be the last one.
        for line in lines.iter().rev().skip(1) {
            assert!(whole.contains(line), "of no run: {line}");
        }
    }
}

/// The files of a run, by their paths in it.
fn files(run: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![run.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(run).unwrap().display().to_string());
            }
        }
    }
    found.sort();
    found
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// The process ended in one of these ways: with a code, by this signal before it could listen to it,
/// or since it had finished already.
fn ended(status: ExitStatus, code: i32, signal: i32) {
    assert!(
        status.code() == Some(code) || status.signal() == Some(signal) || status.code() == Some(0),
        "{status}"
    );
}

fn by_signal(number: i32, code: i32) -> impl Fn(&Path, Duration, &mut Draws) {
    move |run, moment, _| {
        let mut child = start(&mut settings(run).command());
        std::thread::sleep(moment);
        // SAFETY: a signal to a process that was started here and not waited for yet.
        unsafe { libc::kill(child.id() as i32, number) };
        ended(child.wait().unwrap(), code, number);
    }
}

/// A terminal: the program's side, and the one that is closed.
fn terminal() -> (OwnedFd, OwnedFd) {
    // SAFETY: plain calls of the system; what they return is checked, and owned once.
    unsafe {
        let outer = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(outer >= 0);
        assert_eq!(libc::grantpt(outer), 0);
        assert_eq!(libc::unlockpt(outer), 0);
        let name = libc::ptsname(outer);
        assert!(!name.is_null());
        let inner = libc::open(name, libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC);
        assert!(inner >= 0);
        (OwnedFd::from_raw_fd(inner), OwnedFd::from_raw_fd(outer))
    }
}

fn closed_terminal(run: &Path, moment: Duration, _: &mut Draws) {
    let (inner, outer) = terminal();
    let mut command = settings(run).command();
    for set in [
        Command::stdin::<OwnedFd>,
        Command::stdout::<OwnedFd>,
        Command::stderr::<OwnedFd>,
    ] {
        set(&mut command, inner.try_clone().unwrap());
    }
    let number = inner.as_raw_fd();
    // SAFETY: both calls are allowed between fork and exec.
    unsafe {
        command.pre_exec(move || {
            if libc::setsid() < 0 || libc::ioctl(number, libc::TIOCSCTTY as _, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let mut child = command.spawn().unwrap();
    drop((inner, command));
    // What it says is read, or it would wait for that.
    let began = Instant::now();
    let mut outer = File::from(outer);
    set_nonblocking(&outer);
    let mut said = [0; 4096];
    while began.elapsed() < moment {
        if !matches!(outer.read(&mut said), Ok(1..)) {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    drop(outer);
    ended(child.wait().unwrap(), 129, libc::SIGHUP);
}

fn set_nonblocking(file: &File) {
    // SAFETY: sets a flag of an open file.
    unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
}

/// `| head`: whoever reads the output leaves, and training is saved and stopped, unless it was done.
fn dead_pipe(run: &Path, moment: Duration, _: &mut Draws) {
    let mut command = settings(run).command();
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::thread::sleep(moment.min(Duration::from_millis(300)));
    drop((child.stdout.take(), child.stderr.take()));
    let code = child.wait().unwrap().code();
    assert!(matches!(code, Some(0 | 141)), "{code:?}");
}

fn full_output(run: &Path, _: Duration, _: &mut Draws) {
    let mut command = settings(run).command();
    for set in [Command::stdout::<File>, Command::stderr::<File>] {
        set(&mut command, File::create("/dev/full").unwrap());
    }
    assert_eq!(command.status().unwrap().code(), Some(0));
}

/// The program with files limited to some blocks of 512 bytes.
fn limited(run: &Train, blocks: u64) -> Command {
    let plain = run.command();
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(plain.get_program());
    command.args(plain.get_args());
    command
}

/// A limit of files' sizes, where the checkpoints of a run pass it one day, stands for a disk that
/// becomes full.
fn full_disk(largest: u64) -> impl Fn(&Path, Duration, &mut Draws) {
    move |run, _, draws| {
        let blocks = largest / 512 - (draws.share() * 24.0) as u64;
        let output = limited(&settings(run), blocks).output().unwrap();
        if !output.status.success() {
            let error = one_error(&output);
            assert!(error.contains("too large"), "{error}");
            let left = if run.exists() { files(run) } else { Vec::new() };
            assert!(
                !left
                    .iter()
                    .any(|name| name.ends_with(".part") || name.ends_with(".tmp")),
                "{left:?}"
            );
        }
    }
}

fn two_processes(run: &Path, moment: Duration, _: &mut Draws) {
    let mut first = start(&mut settings(run).command());
    std::thread::sleep(moment);
    let second = settings(run).output();
    let status = first.wait().unwrap();
    if !second.status.success() {
        let error = one_error(&second);
        assert!(
            error.contains("in use by") || error.contains("another process"),
            "{error}"
        );
        assert!(status.success(), "{status}");
    } else if !status.success() {
        // The second one was first.
        assert_eq!(status.code(), Some(1), "{}", text(&second.stderr));
    }
}

fn kills(rounds: usize) {
    let unbroken = Unbroken::new();
    unbroken.rounds(1, rounds, by_signal(libc::SIGKILL, 137));
    unbroken.rounds(2, rounds, by_signal(libc::SIGTERM, 143));
    unbroken.rounds(3, rounds, by_signal(libc::SIGHUP, 129));
    unbroken.rounds(4, rounds, by_signal(libc::SIGINT, 130));
}

fn outputs(rounds: usize) {
    let unbroken = Unbroken::new();
    unbroken.rounds(5, rounds, closed_terminal);
    unbroken.rounds(6, rounds, dead_pipe);
    if Path::new("/dev/full").exists() {
        unbroken.rounds(7, rounds, full_output);
    }
}

fn files_and_folders(rounds: usize) {
    let unbroken = Unbroken::new();
    let checkpoints = list(&unbroken.whole.join("checkpoints"));
    let sizes = checkpoints
        .iter()
        .map(|path| fs::metadata(path).unwrap().len());
    unbroken.rounds(8, rounds, full_disk(sizes.max().unwrap()));
    unbroken.rounds(9, rounds, two_processes);
}

#[test]
fn by_signals() {
    kills(2);
}

#[test]
fn by_terminals_and_pipes() {
    outputs(2);
}

#[test]
fn by_full_disks_and_other_processes() {
    files_and_folders(2);
}

#[test]
fn a_run_that_cannot_begin_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let error = one_error(&limited(&settings(&run), 1).output().unwrap());
    assert!(error.contains("too large"), "{error}");
    assert!(!run.exists(), "{:?}", files(&run));
    // Of what was there before, nothing is touched.
    fs::create_dir(&run).unwrap();
    fs::write(run.join("notes.txt"), "mine").unwrap();
    one_error(&limited(&settings(&run), 1).output().unwrap());
    assert_eq!(files(&run), ["notes.txt"]);
    settings(&run).with("epochs", 1).succeed();
}

#[test]
#[ignore = "takes minutes: ten times each"]
fn by_anything_ten_times() {
    kills(10);
    outputs(10);
    files_and_folders(10);
}
