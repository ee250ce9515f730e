//! Why a run cannot start, resume or continue, and the commands that help.

use dinolab_run::error::or_none;
use dinolab_run::{RunError, SettingValue};

use crate::run_commands::Commands;

/// The error in one line, with what to do.
pub fn words(error: &RunError) -> String {
    match error {
        RunError::InUse { .. } => {
            format!("{error}; wait until it ends, stop it, or give another --out")
        }
        RunError::Taken { .. } => format!("{error}; give another --out"),
        RunError::WeightsOnly { run } => format!(
            "{error}; start from them with --weights {} and another --out",
            run.display()
        ),
        RunError::NothingToResume { run, diverged } => {
            let root = run.display();
            match diverged {
                true => format!(
                    "--resume: {root} holds no sound checkpoint, since the run diverged from its \
                     beginning; start over with other settings: {}",
                    Commands::new(run).start_over(&[])
                ),
                false => format!(
                    "--resume: {root} holds no checkpoint; leave --resume out to begin a run"
                ),
            }
        }
        RunError::NoneSound { run, .. } => format!(
            "--change-settings: {error}; start over with the changed settings: {}",
            Commands::new(run).start_over(&[])
        ),
        RunError::Fixed {
            run,
            setting,
            reason,
            changes,
        } => format!(
            "--change-settings: --{setting} cannot change during a run, because {reason}; \
             start a new one: {}",
            Commands::new(run).new_run(changes)
        ),
        RunError::OtherSettings {
            run,
            changes,
            changeable,
        } => {
            let commands = Commands::new(run);
            let change = match changeable {
                true => format!(
                    "; or resume it with the changed ones: {}",
                    commands.change(changes)
                ),
                false => String::new(),
            };
            format!(
                "{} holds a run with another {}; resume it with its own settings: {}{change}; or give \
                 another --out for a new run, or --fresh to start over",
                run.display(),
                flags(changes),
                commands.resume(),
            )
        }
        RunError::TooFewEpochs { before, .. } => {
            format!("--{error}; give more, or none for the {before} that it has")
        }
        RunError::OtherWeights { run, before } => format!(
            "{} holds a run that started from other --weights ({}); resume it without the flag: {}; or \
             give another --out for a new run",
            run.display(),
            or_none(before),
            Commands::new(run).resume()
        ),
        RunError::OtherImages { run, images, .. } => format!(
            "{error}; put them back to resume it, or start a new run from its weights: {}; or start \
             over with --fresh",
            Commands::new(run).new_run_from_weights(images.as_deref())
        ),
        RunError::ImagesMissing { run, .. } => format!(
            "the run's images: if they lie elsewhere now, {}",
            Commands::new(run).resume_on("IMAGES")
        ),
        RunError::Diverged {
            run,
            source,
            remedies,
        } => {
            let dinolab_train::Error::Diverged { sound, aside, .. } = source else {
                return error.to_string();
            };
            let state = match sound {
                Some((step, path)) => {
                    let path = path.display();
                    format!("the last sound checkpoint is {path} (step {step})")
                }
                None => "no checkpoint of it is sound".into(),
            };
            let later = match aside.len() {
                0 => String::new(),
                n => format!(
                    "; {n} later {} not, and {} not used",
                    if n == 1 { "one is" } else { "ones are" },
                    if n == 1 { "is" } else { "are" }
                ),
            };
            let advice = Commands::new(run).remedies(remedies, sound.is_some());
            format!("{error}; {state}{later}. {}", capitalised(&advice))
        }
        other => other.to_string(),
    }
}

fn flags(changes: &[SettingValue]) -> String {
    let names: Vec<String> = changes
        .iter()
        .map(|(name, _)| format!("--{name}"))
        .collect();
    names.join(", ")
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
