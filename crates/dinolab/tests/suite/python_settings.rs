//! The Python package's types of settings are of the flags that `train` has.

use std::collections::BTreeSet;
use std::fs;

use clap::{Args as _, Command};

const STUB: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../dinolab-python/python/dinolab/_settings.pyi"
);

/// What the stub has no line for: the arguments of the function itself, and the page of the command line.
const ARGUMENTS: [&str; 6] = [
    "out",
    "config",
    "resume",
    "change_settings",
    "fresh",
    "view",
];

#[test]
fn the_types_of_settings_are_of_all_flags() {
    let stub = fs::read_to_string(STUB).unwrap();
    let typed: Vec<(&str, &str)> = stub
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.split_once(": "))
        .collect();
    let command = dinolab::TrainArgs::augment_args(Command::new("dinolab"));
    let flags: Vec<(String, &clap::Arg)> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| Some((arg.get_long()?.replace('-', "_"), arg)))
        .filter(|(name, _)| !ARGUMENTS.contains(&name.as_str()))
        .collect();

    let names: Vec<&str> = flags.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        typed.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        names
    );
    for ((name, kind), (_, arg)) in typed.iter().zip(&flags) {
        let Some(literals) = kind
            .strip_prefix("Literal[")
            .and_then(|rest| rest.split(']').next())
        else {
            continue;
        };
        let stubbed: BTreeSet<String> = literals
            .split(", ")
            .map(|literal| literal.trim_matches('"').to_owned())
            .collect();
        let possible: BTreeSet<String> = arg
            .get_possible_values()
            .iter()
            .map(|value| value.get_name().to_owned())
            .collect();
        // Those that clap does not list are parsed by `FromStr`.
        if !possible.is_empty() {
            assert_eq!(stubbed, possible, "{name}");
        }
    }
}
