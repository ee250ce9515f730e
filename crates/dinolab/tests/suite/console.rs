//! What the program does when nobody reads what it prints: a reader that leaves, a full disk, a
//! terminal that is closed.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use crate::common::{
    Train, checkpoint_steps, pictures, program, signal, text, wait_for_checkpoint,
};

/// A run that does not end by itself while a test looks at it.
fn endless(out: &Path) -> Train {
    Train::tiny(out)
        .with("epochs", 100_000)
        .with("checkpoint-every", 100_000)
        .with("checkpoint-every-steps", 10)
}

/// Waits for the end; the newest checkpoint of a stopped run is newer than those before.
fn ended(mut child: Child) -> ExitStatus {
    let patience = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(patience.elapsed() < Duration::from_secs(120), "still runs");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The program in a shell that redirects its streams.
fn shell(script: &str, arguments: &[&str]) -> Output {
    Command::new("sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_dinolab")])
        .args(arguments)
        .stdin(Stdio::null())
        .env_remove("RUST_BACKTRACE")
        .output()
        .unwrap()
}

fn quiet(output: &Output) {
    let said = text(&output.stderr);
    assert!(!said.contains("panicked"), "{said}");
    assert!(output.status.code().is_some(), "{}: {said}", output.status);
}

/// A pipe whose reader has left.
fn broken_pipe() -> Stdio {
    let mut reader = Command::new("true").stdin(Stdio::piped()).spawn().unwrap();
    let pipe = reader.stdin.take().unwrap();
    reader.wait().unwrap();
    Stdio::from(pipe)
}

#[test]
fn text_that_is_the_result_ends_with_its_reader() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path(), 3);
    let images = root.path().to_str().unwrap();
    for arguments in [
        &["data", "inspect", images][..],
        &["--help"],
        &["train", "--help"],
        &["--version"],
    ] {
        let output = program()
            .args(arguments)
            .stdout(broken_pipe())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        // Both streams at once.
        let output = shell("\"$@\" 2>&1 | head -n 1", arguments);
        assert_eq!(text(&output.stdout).lines().count(), 1, "{arguments:?}");
        assert_eq!(text(&output.stderr), "", "{arguments:?}");
        quiet(&output);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_one_error() {
    let root = tempfile::tempdir().unwrap();
    pictures(root.path(), 3);
    let images = root.path().to_str().unwrap();
    for arguments in [
        &["data", "inspect", images, "--json"][..],
        &["embed", "--help"],
        &["--version"],
    ] {
        let output = shell("\"$@\" > /dev/full", arguments);
        let said = text(&output.stderr);
        let line = "error: cannot write to standard output: No space left on device\n";
        assert_eq!(said, line, "{arguments:?}");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        // Without a place for the error, the code tells.
        let output = shell("\"$@\" > /dev/full 2> /dev/full", arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
    }
    // A command line that cannot be followed has its code, heard or not.
    let output = shell("\"$@\" 2> /dev/full", &["train", "--no-such-flag"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
#[cfg(target_os = "linux")]
fn files_are_written_on_a_deaf_terminal() {
    let root = tempfile::tempdir().unwrap();
    let (run, out) = (root.path().join("run"), root.path().join("maps"));
    let images = root.path().join("images");
    pictures(&images, 2);
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    Train::tiny(&run).with("epochs", 0.25).succeed();
    let attend = [
        "attend",
        "--weights",
        &path(&run),
        &path(&images),
        "--out",
        &path(&out),
    ];
    let written = || {
        let count = fs::read_dir(&out).map_or(0, Iterator::count);
        let _ = fs::remove_dir_all(&out);
        count
    };
    // The maps are the result; what is lost of the text is said at the end.
    let output = shell("\"$@\" > /dev/full", &attend);
    quiet(&output);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.ends_with("No space left on device\n"), "{said}");
    let all = written();
    assert!(all >= 2 * (1 + 2 * 3), "{all}");
    for script in [
        "\"$@\" >&-",
        "\"$@\" >&- 2>&-",
        "\"$@\" 2> /dev/full",
        "exec \"$@\" | true",
    ] {
        let output = shell(script, &attend);
        quiet(&output);
        assert_eq!(output.status.code(), Some(0), "{script}");
        assert_eq!(written(), all, "{script}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn training_goes_on_unheard() {
    let root = tempfile::tempdir().unwrap();
    for (number, script) in [
        "\"$@\" > /dev/full",
        "\"$@\" > /dev/full 2> /dev/full",
        "\"$@\" >&- 2>&-",
    ]
    .into_iter()
    .enumerate()
    {
        let run = root.path().join(number.to_string());
        let command = Train::tiny(&run).with("epochs", 2).command();
        let arguments: Vec<&str> = command.get_args().map(|a| a.to_str().unwrap()).collect();
        let output = shell(script, &arguments);
        quiet(&output);
        assert_eq!(output.status.code(), Some(0), "{script}");
        let said = text(&output.stderr);
        let warned = said.matches("cannot write to standard output").count();
        assert_eq!(warned, usize::from(number == 0), "{script}: {said}");
        assert_eq!(checkpoint_steps(&run)[0], 8, "{script}");
        assert!(run.join("report.html").exists(), "{script}");
    }
}

#[test]
fn training_is_saved_when_its_reader_leaves() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let mut child = endless(&run)
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    lines.read_line(&mut String::new()).unwrap();
    wait_for_checkpoint(&run, 0, &mut child);
    drop(lines);
    drop(child.stdout.take());
    let before = checkpoint_steps(&run)[0];
    assert_eq!(ended(child).code(), Some(141));
    let saved = checkpoint_steps(&run)[0];
    assert!(saved >= before, "{before} to {saved}");
}

#[test]
fn signals_have_their_codes() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let mut before = 0;
    for (name, code) in [("HUP", 129), ("INT", 130), ("TERM", 143)] {
        let mut child = endless(&run)
            .command()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for_checkpoint(&run, before, &mut child);
        signal(name, &child);
        assert_eq!(ended(child).code(), Some(code), "SIG{name}");
        let saved = checkpoint_steps(&run)[0];
        assert!(saved > before, "SIG{name}: {before} to {saved}");
        before = saved;
    }
}

#[test]
fn several_hangups_at_once_still_save() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let mut child = endless(&run)
        .with("checkpoint-every-steps", 0)
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("epoch") {
        line.clear();
        assert_ne!(lines.read_line(&mut line).unwrap(), 0, "ended");
    }
    // Shell and kernel both send one, and `timeout` two.
    for name in ["HUP", "HUP", "TERM", "TERM", "HUP"] {
        signal(name, &child);
    }
    let mut rest = String::new();
    let _ = lines.read_to_string(&mut rest);
    let code = ended(child).code();
    assert!(code == Some(129) || code == Some(143), "{code:?}: {rest}");
    assert!(!checkpoint_steps(&run).is_empty());
}

#[test]
fn nohup_keeps_a_run_going() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let train = endless(&run).command();
    let mut child = Command::new("nohup")
        .arg(train.get_program())
        .args(train.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for_checkpoint(&run, 0, &mut child);
    signal("HUP", &child);
    let before = checkpoint_steps(&run)[0];
    wait_for_checkpoint(&run, before + 50, &mut child);
    signal("INT", &child);
    assert_eq!(ended(child).code(), Some(130));
}

/// `script` gives the run a terminal of its own, which is closed when `script` is killed.
#[test]
#[cfg(target_os = "linux")]
fn a_closed_terminal_saves_the_run() {
    if Command::new("script").arg("--version").output().is_err() {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    // A checkpoint tells that the run was saved when it was stopped: there is no other.
    let train = endless(&run).with("checkpoint-every-steps", 0).command();
    let words: Vec<String> = std::iter::once(train.get_program())
        .chain(train.get_args())
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    let mut terminal = Command::new("script")
        .args([
            "-q",
            "-c",
            &format!("exec {}", words.join(" ")),
            "/dev/null",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let until = |what: &dyn Fn() -> bool| {
        let patience = Instant::now();
        while !what() {
            assert!(patience.elapsed() < Duration::from_secs(60), "no end");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(&|| fs::metadata(run.join("metrics.jsonl")).is_ok_and(|file| file.len() > 5000));
    assert!(checkpoint_steps(&run).is_empty());
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    until(&|| !checkpoint_steps(&run).is_empty() && run.join("report.html").exists());
}
