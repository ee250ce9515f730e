//! `dinolab train --view`: a page beside the run, and either whole when the other is killed.
#![cfg(all(unix, feature = "view"))]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::common::{Train, assert_same, signal, text, wait_for_checkpoint};

/// A run with a page, and the address of the page.
struct Run {
    child: Child,
    out: BufReader<ChildStdout>,
    address: String,
}

fn start(train: &Train) -> Run {
    let mut child = train
        .command()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("http://") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "no address");
    }
    let address = line.trim().trim_start_matches("http://");
    let address = address.trim_end_matches('/').to_owned();
    Run {
        child,
        out,
        address,
    }
}

impl Run {
    /// The page, if it is served.
    fn page(&self) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok()?;
        let answer = text(&answer);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Some(answer)
    }

    fn page_ends(&self) {
        let patience = Instant::now();
        while self.page().is_some() {
            assert!(
                patience.elapsed() < Duration::from_secs(30),
                "still answers"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The process that holds the page.
    fn companion(&self) -> String {
        let found = Command::new("pgrep")
            .args(["-P", &self.child.id().to_string()])
            .output()
            .unwrap();
        let found = text(&found.stdout);
        assert_eq!(found.lines().count(), 1, "{found}");
        found.trim().to_owned()
    }

    /// Waits for the end of the run, which must be a good one.
    fn succeeds(mut self) {
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        let output = self.child.wait_with_output().unwrap();
        assert!(output.status.success(), "{said}{}", text(&output.stderr));
    }
}

fn settings(out: &Path) -> Train {
    Train::tiny(out).with("checkpoint-every-steps", 3)
}

#[test]
fn a_page_is_served_while_the_run_trains() {
    let root = tempfile::tempdir().unwrap();
    let (with, without) = (root.path().join("with"), root.path().join("without"));
    settings(&without).with("epochs", 60).succeed();
    let run = start(&settings(&with).with("epochs", 60).switch("view"));
    assert!(run.page().unwrap().contains("dinolab"));
    let address = run.address.clone();
    run.succeeds();
    assert!(TcpStream::connect(address).is_err(), "ends with the run");
    assert_same(&with, &without);
}

#[test]
fn a_run_whose_page_is_killed_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let run = start(&settings(&out).with("epochs", 40).switch("view"));
    let killed = Command::new("kill")
        .args(["-KILL", &run.companion()])
        .status();
    assert!(killed.unwrap().success());
    run.page_ends();
    run.succeeds();
}

#[test]
fn a_page_whose_run_is_killed_ends() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("run");
    let endless = settings(&out).with("epochs", 100_000);
    let mut run = start(&endless.switch("view"));
    assert!(run.page().is_some());
    wait_for_checkpoint(&out, 0, &mut run.child);
    signal("KILL", &run.child);
    run.child.wait().unwrap();
    run.page_ends();
    // And the run is as whole as without one.
    settings(&out)
        .with("epochs", 100_000)
        .with("stop-after-epochs", 1)
        .succeed();
}
