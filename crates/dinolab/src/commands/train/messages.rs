//! What `dinolab train` says of a run that it resumes, or that diverged.

use dinolab_eval::health::after_divergence;
use dinolab_train::checkpoint::{self, Checkpoint};

use crate::folder::RunFolder;
use crate::settings::Config;
use crate::watch::context;

/// The error of `--resume` where there is no checkpoint.
pub fn nothing_to_resume(folder: &RunFolder) -> anyhow::Error {
    let root = folder.root().display();
    if !checkpoint::aside(&folder.checkpoints()).is_empty() {
        return anyhow::anyhow!(
            "--resume: {root} holds no sound checkpoint, since the run diverged from its beginning; \
             start over with other settings: {}",
            folder.commands().start_over(&[])
        );
    }
    anyhow::anyhow!("--resume: {root} holds no checkpoint; leave --resume out to begin a run")
}

/// Says where a run is resumed, and what was changed in its course.
pub fn resumed(folder: &RunFolder, checkpoint: &Checkpoint, config: &Config, images: usize) {
    let position = &checkpoint.position;
    let root = folder.root().display();
    outln!("going on from step {} in {root}", position.step);
    for change in &position.changes {
        outln!(
            "  from step {}: --{} {} (before, {})",
            change.step,
            change.setting,
            change.to,
            change.from
        );
    }
    let aside = checkpoint::aside(&folder.checkpoints());
    let changed = position
        .changes
        .iter()
        .any(|change| change.step == position.step);
    if let (Some(last), false) = (aside.last(), changed) {
        let remedies = after_divergence(&context(config, images));
        errln!(
            "warning: the run diverged after this step ({} is not used), and with the same settings \
             does so again; {}",
            last.display(),
            folder.commands().remedies(&remedies, true)
        );
    }
}

/// The error of a run that diverged, with what to do.
pub fn diverged(
    folder: &RunFolder,
    config: &Config,
    images: usize,
    error: dinolab_train::Error,
) -> anyhow::Error {
    let dinolab_train::Error::Diverged { sound, aside, .. } = &error else {
        return error.into();
    };
    let state = match sound {
        Some((step, path)) => {
            format!(
                "the last sound checkpoint is {} (step {step})",
                path.display()
            )
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
    let remedies = after_divergence(&context(config, images));
    let advice = folder.commands().remedies(&remedies, sound.is_some());
    let line = format!("{error}; {state}{later}. {}", capitalised(&advice));
    anyhow::Error::from(error).context(line)
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}
