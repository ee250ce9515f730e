//! What the command line says of itself: version, completions, manual pages, and the examples in
//! `--help`.

use std::fs;

use crate::common::{program, text};

/// Standard output of a command that must succeed.
fn output(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The commands in the help of `parent`.
fn commands(parent: &[&str]) -> Vec<String> {
    let help = output(&[parent, &["--help"]].concat());
    let Some((_, list)) = help.split_once("\nCommands:\n") else {
        return Vec::new();
    };
    list.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| {
            line.strip_prefix("  ")?
                .split(' ')
                .next()
                .map(str::to_owned)
        })
        .filter(|name| !name.is_empty() && name != "help")
        .collect()
}

/// All commands that do something, as typed.
fn all_commands() -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for name in commands(&[]) {
        let below = commands(&[&name]);
        if below.is_empty() {
            all.push(vec![name]);
        } else {
            all.extend(below.into_iter().map(|inner| vec![name.clone(), inner]));
        }
    }
    all
}

#[test]
fn the_long_version_says_how_the_program_was_built() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(output(&["-V"]), format!("dinolab {version}\n"));
    for arguments in [&["--version"][..], &["--version", "--verbose"]] {
        let long = output(arguments);
        let mut lines = long.lines();
        assert_eq!(lines.next(), Some(format!("dinolab {version}").as_str()));
        let names: Vec<_> = lines.map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(names, ["devices", "features", "system"], "{long}");
        assert!(long.contains(std::env::consts::ARCH), "{long}");
    }
}

#[test]
fn every_command_has_an_example_that_its_flags_allow() {
    let all = all_commands();
    assert!(all.len() > 15, "{all:?}");
    for command in all {
        let names: Vec<_> = command.iter().map(String::as_str).collect();
        let help = output(&[&names[..], &["--help"]].concat());
        let examples: Vec<_> = help
            .lines()
            .filter_map(|line| line.split_once("Example: dinolab ").map(|split| split.1))
            .collect();
        assert!(!examples.is_empty(), "{command:?} has no example");
        for example in examples {
            assert!(
                example.starts_with(&command.join(" ")),
                "{command:?}: {example}"
            );
            for word in example
                .split_whitespace()
                .filter(|word| word.starts_with("--"))
            {
                let flag = word.split('=').next().unwrap();
                let listed = |line: &str| line.split([' ', ',', '[', '=']).any(|word| word == flag);
                assert!(
                    help.lines()
                        .any(|line| line.trim_start().starts_with('-') && listed(line)),
                    "{command:?}: the example has {flag}, which the help does not list"
                );
            }
        }
    }
}

#[test]
fn completions_know_commands_and_flags() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = output(&["completions", shell]);
        for word in ["neighbours", "patch-size"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
}

#[test]
fn each_command_has_a_manual_page() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("man");
    output(&["man", "--out", out.to_str().unwrap()]);
    for command in all_commands() {
        let name = format!("dinolab-{}.1", command.join("-"));
        let page = fs::read_to_string(out.join(&name)).unwrap_or_else(|_| panic!("no {name}"));
        assert!(page.contains(".SH OPTIONS"), "{name}");
    }
    assert!(out.join("dinolab.1").exists());
    // A place that cannot be written to is named.
    fs::write(root.path().join("file"), "").unwrap();
    let taken = root.path().join("file");
    let refused = program()
        .args(["man", "--out"])
        .arg(&taken)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains(taken.to_str().unwrap()));
}
