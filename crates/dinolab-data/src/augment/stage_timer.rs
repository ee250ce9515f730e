//! Time spent in each stage of making a view; off by default.

use std::time::{Duration, Instant};

/// The steps from an image to a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Cutting out, resizing and mirroring.
    Resize,
    /// Brightness, contrast and saturation.
    Colour,
    /// Hue.
    Hue,
    /// Greyscale and solarisation.
    Grey,
    /// Blur.
    Blur,
    /// To normalised values.
    Normalise,
}

impl Stage {
    /// All stages in their order.
    pub const ALL: [Self; 6] = [
        Self::Resize,
        Self::Colour,
        Self::Hue,
        Self::Grey,
        Self::Blur,
        Self::Normalise,
    ];

    /// Its name in words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Resize => "crop, resize and flip",
            Self::Colour => "brightness, contrast, saturation",
            Self::Hue => "hue",
            Self::Grey => "greyscale, solarise",
            Self::Blur => "blur",
            Self::Normalise => "normalise",
        }
    }
}

/// Time spent in each stage.
#[derive(Clone, Debug, Default)]
pub struct StageTimer {
    spent: Option<[Duration; Stage::ALL.len()]>,
}

impl StageTimer {
    /// A timer that runs.
    pub fn running() -> Self {
        Self {
            spent: Some(Default::default()),
        }
    }

    /// What was spent in a stage so far; 0 if the timer does not run.
    pub fn spent(&self, stage: Stage) -> Duration {
        self.spent
            .map_or(Duration::ZERO, |spent| spent[stage as usize])
    }

    /// Runs `work` and adds its time to the stage.
    pub(super) fn time<T>(&mut self, stage: Stage, work: impl FnOnce() -> T) -> T {
        let Some(spent) = &mut self.spent else {
            return work();
        };
        let began = Instant::now();
        let done = work();
        spent[stage as usize] += began.elapsed();
        done
    }
}
