//! Commands for a run that messages suggest: whole, so that they can be run as they stand.

use std::path::{Path, PathBuf};

use dinolab_run::SettingValue;
use dinolab_run::health::{Adjustment, Remedy, Setting};
use dinolab_run::values::plain_number;

/// The commands for one run folder.
#[derive(Clone, Copy)]
pub struct Commands<'a> {
    run: &'a Path,
}

impl<'a> Commands<'a> {
    /// Those for the run in `run`, as it was named on the command line.
    pub fn new(run: &'a Path) -> Self {
        Self { run }
    }

    /// Resumes the run as it is.
    pub fn resume(self) -> String {
        command(["--out", &self.name(), "--resume"], &[])
    }

    /// Resumes the run on images that lie elsewhere now.
    pub fn resume_on(self, images: &str) -> String {
        command([images, "--out", &self.name(), "--resume"], &[])
    }

    /// Resumes the run, from its last sound checkpoint, with other settings.
    pub fn change(self, flags: &[SettingValue]) -> String {
        let name = self.name();
        command(["--out", &name, "--resume", "--change-settings"], flags)
    }

    /// Starts the run over, with other settings.
    pub fn start_over(self, flags: &[SettingValue]) -> String {
        let (config, name) = (self.config(), self.name());
        command(["--config", &config, "--out", &name, "--fresh"], flags)
    }

    /// Starts another run with other settings.
    pub fn new_run(self, flags: &[SettingValue]) -> String {
        let (config, free) = (self.config(), self.free());
        command(["--config", &config, "--out", &free], flags)
    }

    /// Starts another run from this one's weights.
    pub fn new_run_from_weights(self, images: Option<&Path>) -> String {
        let (config, name, free) = (self.config(), self.name(), self.free());
        let images = images.map(|images| images.display().to_string());
        let rest = ["--config", &config, "--weights", &name, "--out", &free];
        command(images.as_deref().into_iter().chain(rest), &[])
    }

    /// What carries a remedy out; `sound`: whether the run has a checkpoint to go back to.
    pub fn remedy(self, remedy: &Remedy, sound: bool) -> Option<String> {
        let resume = |flags: &[SettingValue]| match sound {
            true => self.change(flags),
            false => self.start_over(flags),
        };
        match remedy {
            Remedy::Resume(adjustments) => Some(resume(&flags(adjustments))),
            Remedy::NewRun(adjustments) => Some(self.new_run(&flags(adjustments))),
            Remedy::FullPrecision => Some(resume(&[("precision".into(), "f32".into())])),
            Remedy::CheckImages | Remedy::Correct(_) => None,
        }
    }

    /// Remedies in words, each with its command.
    pub fn remedies(self, remedies: &[Remedy], sound: bool) -> String {
        let with_command = |remedy: &Remedy| match self.remedy(remedy, sound) {
            Some(command) => format!("{remedy}: {command}"),
            None => remedy.to_string(),
        };
        let all: Vec<String> = remedies.iter().map(with_command).collect();
        all.join("; or ")
    }

    fn name(self) -> String {
        self.run.display().to_string()
    }

    fn config(self) -> String {
        self.run.join("config.toml").display().to_string()
    }

    /// A folder next to the run that does not exist yet.
    fn free(self) -> String {
        let numbered = |n: u32| {
            let mut name = self.run.file_name().unwrap_or("run".as_ref()).to_owned();
            name.push(format!("-{n}"));
            self.run.with_file_name(name)
        };
        let free = |path: &PathBuf| !path.exists();
        let path = (2..).map(numbered).find(free).expect("some number is free");
        path.display().to_string()
    }
}

/// The flag of a setting.
fn flag(setting: Setting) -> &'static str {
    match setting {
        Setting::LearningRate => "lr",
        Setting::GradientClip => "clip-grad",
        Setting::WarmupEpochs => "warmup-epochs",
        Setting::TeacherTemp => "teacher-temp",
        Setting::TeacherMomentum => "momentum-teacher",
        Setting::CentreMomentum => "center-momentum",
        Setting::WeightDecayEnd => "weight-decay-end",
        Setting::OutDim => "out-dim",
        Setting::SigRegWeight => "sigreg-weight",
        Setting::CodingRateWeight => "coding-rate-weight",
        Setting::VisRegWeight => "visreg-weight",
    }
}

fn flags(adjustments: &[Adjustment]) -> Vec<SettingValue> {
    let one = |a: &Adjustment| (flag(a.setting).to_owned(), plain_number(a.to));
    adjustments.iter().map(one).collect()
}

/// `dinolab train` with arguments and flags, as a shell takes it.
fn command<'a>(arguments: impl IntoIterator<Item = &'a str>, flags: &[SettingValue]) -> String {
    let mut line = "dinolab train".to_owned();
    let flags = flags
        .iter()
        .flat_map(|(flag, value)| [format!("--{flag}"), value.clone()]);
    for argument in arguments.into_iter().map(str::to_owned).chain(flags) {
        line.push(' ');
        line.push_str(&quoted(&argument));
    }
    line
}

/// An argument in quotes where a shell would take it apart.
fn quoted(argument: &str) -> String {
    let separator = cfg!(windows).then_some('\\');
    let plain = |c: char| c.is_alphanumeric() || "-_./:,=+@%".contains(c) || Some(c) == separator;
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', r"'\''"))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_commands_back_as_they_were_meant() {
        for name in [
            "runs/a",
            "a b",
            "it's",
            r"back\slash",
            "$HOME",
            "*",
            "ü",
            "a;b",
            "",
        ] {
            let line = format!("printf %s {}", quoted(name));
            let output = std::process::Command::new("sh")
                .args(["-c", &line])
                .output();
            assert_eq!(output.unwrap().stdout, name.as_bytes(), "{line}");
        }
    }
}
