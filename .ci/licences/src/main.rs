//! Checks the licences of all dependencies; fails if one is not allowed.
//!
//! `deny.toml` is cargo-deny's, which checks more but compiles for minutes on a fresh machine; this
//! needs two small crates and `cargo tree`. (`cargo metadata` also lists packages of features that are
//! off.)
//!
//! Arguments are passed to `cargo tree`: `-- --features dinolab/remote`.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::ffi::OsString;
use std::process::{Command, ExitCode};

use spdx::{Expression, ParseMode};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The section `licenses` of `deny.toml`.
struct Policy {
    allow: BTreeSet<String>,
    /// Further licences by the name of a crate.
    exceptions: BTreeMap<String, BTreeSet<String>>,
}

impl Policy {
    fn parse(text: &str) -> Result<Self> {
        let table: toml::Table = text.parse()?;
        let licenses = table.get("licenses").ok_or("no section `licenses`")?;
        let exceptions = licenses.get("exceptions").and_then(toml::Value::as_array);
        let exception = |entry: &toml::Value| {
            let name = entry.get("crate").and_then(toml::Value::as_str);
            let name = name.ok_or("an exception without `crate`")?;
            Ok((name.to_owned(), names(entry.get("allow"))?))
        };
        Ok(Self {
            allow: names(licenses.get("allow"))?,
            exceptions: exceptions
                .into_iter()
                .flatten()
                .map(exception)
                .collect::<Result<_>>()?,
        })
    }

    /// Whether a crate may be used under an SPDX expression: of an OR one side has to be allowed,
    /// of an AND both. An exception (WITH) only permits more than its licence.
    fn allows(&self, name: &str, expression: &str) -> bool {
        let further = self.exceptions.get(name);
        let allowed = |id: &str| {
            self.allow.contains(id) || further.is_some_and(|further| further.contains(id))
        };
        // Old manifests separate alternatives by a slash.
        Expression::parse_mode(expression, ParseMode::LAX).is_ok_and(|expression| {
            expression.evaluate(|requirement| {
                let id = requirement.license.id();
                id.is_some_and(|id| allowed(id.name))
            })
        })
    }
}

fn names(list: Option<&toml::Value>) -> Result<BTreeSet<String>> {
    let list = list
        .and_then(toml::Value::as_array)
        .ok_or("a list `allow` is missing")?;
    let name = |value: &toml::Value| Some(value.as_str()?.to_owned());
    let names = list.iter().map(name).collect::<Option<_>>();
    names.ok_or_else(|| "`allow` holds names of licences".into())
}

/// Names, versions and licences of all dependencies, as `cargo tree` lists them with `options`.
fn dependencies(options: impl Iterator<Item = OsString>) -> Result<BTreeSet<(String, String)>> {
    let mut tree = Command::new("cargo");
    tree.args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "normal,build,dev",
    ]);
    tree.args(["--prefix", "none", "--format", "{p}|{l}|"])
        .args(options);
    let output = tree.output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    // Blank lines separate the members of the workspace.
    let text = String::from_utf8(output.stdout)?;
    let lines = text.lines().filter(|line| !line.is_empty());
    let fields = |line: &str| {
        let mut fields = line.split('|').map(str::to_owned);
        let pair = fields.next().zip(fields.next());
        pair.ok_or_else(|| format!("cargo tree: {line}").into())
    };
    lines.map(fields).collect()
}

fn main() -> ExitCode {
    check().unwrap_or_else(|error| {
        eprintln!("{error}");
        ExitCode::FAILURE
    })
}

fn check() -> Result<ExitCode> {
    let policy = Policy::parse(&std::fs::read_to_string("deny.toml")?)?;
    let dependencies = dependencies(std::env::args_os().skip(1))?;
    let mut refused = 0;
    for (package, licence) in &dependencies {
        let name = package.split(' ').next().unwrap_or_default();
        if !policy.allows(name, licence) {
            refused += 1;
            println!(
                "{package}: {}",
                if licence.is_empty() {
                    "no licence"
                } else {
                    licence
                }
            );
        }
    }
    println!("{} packages, {refused} not allowed", dependencies.len());
    Ok(match (dependencies.len(), refused) {
        (1.., 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

#[cfg(test)]
mod tests {
    use super::Policy;

    #[test]
    fn expressions() {
        let text = r#"
            [licenses]
            allow = ["MIT", "Apache-2.0", "Unicode-3.0"]
            exceptions = [{ crate = "odd", allow = ["MPL-2.0"] }]
        "#;
        let policy = Policy::parse(text).unwrap();
        for (name, expression, allowed) in [
            ("a", "MIT", true),
            ("a", "GPL-3.0-only", false),
            ("a", "GPL-3.0-only OR MIT", true),
            ("a", "GPL-3.0-only AND MIT", false),
            ("a", "(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("a", "(MIT OR Apache-2.0) AND GPL-3.0-only", false),
            ("a", "Apache-2.0 WITH LLVM-exception", true),
            ("a", "MIT/Apache-2.0", true),
            ("a", "MPL-2.0", false),
            ("odd", "MPL-2.0", true),
            ("a", "no licence", false),
            ("a", "", false),
        ] {
            assert_eq!(
                policy.allows(name, expression),
                allowed,
                "{name}: {expression}"
            );
        }
        assert!(Policy::parse("[licenses]").is_err());
    }
}
