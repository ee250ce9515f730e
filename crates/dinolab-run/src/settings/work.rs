//! How the work of a run is spread over its steps, for the time that is left.

use dinolab_data::augment::MultiCrop;

use super::Config;

/// The steps of a run, of which the first may have smaller crops and take less time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    steps: u64,
    early: u64,
    /// Of an early step, to that of a later one.
    early_cost: f64,
}

impl Work {
    /// Steps that take equal time.
    pub fn uniform(steps: u64) -> Self {
        Self {
            steps,
            early: 0,
            early_cost: 1.0,
        }
    }

    /// `steps` steps with these settings.
    ///
    /// # Errors
    /// None in practice, as in [`Config::train_config`].
    pub fn new(config: &Config, steps: u64, steps_per_epoch: u64) -> crate::Result<Self> {
        let plan = config.train_config()?;
        let Some((epochs, early)) = plan.early_crops else {
            return Ok(Self::uniform(steps));
        };
        Ok(Self {
            steps,
            early: epochs.saturating_mul(steps_per_epoch).min(steps),
            early_cost: tokens(&early, config) / tokens(&plan.crops, config),
        })
    }

    /// Of step `step`, counted from 0, to that of the last.
    pub fn cost(&self, step: u64) -> f64 {
        match step < self.early {
            true => self.early_cost,
            false => 1.0,
        }
    }

    /// Of the steps after the first `done`, in those of the last one.
    pub fn left(&self, done: u64) -> f64 {
        let early = self.early.saturating_sub(done);
        let later = self.steps.saturating_sub(done.max(self.early));
        self.early_cost * early as f64 + later as f64
    }

    /// The share of the first `done` steps, 0–1.
    pub fn share(&self, done: u64) -> f64 {
        match self.left(0) {
            0.0 => 1.0,
            all => 1.0 - self.left(done) / all,
        }
    }
}

/// What the views of an image are to the network: patches that are not dropped, and a class token each.
fn tokens(crops: &MultiCrop, config: &Config) -> f64 {
    let patches = |size: dinolab_data::Size| {
        (size.height * size.width) as f64 / config.patch_size.pow(2) as f64
    };
    let global = patches(crops.global_size) * (1.0 - config.patch_drop_rate) + 1.0;
    let local = patches(crops.local_size) + 1.0;
    2.0 * global + crops.local_views as f64 * local
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn config(low_resolution_epochs: u64) -> Config {
        let settings = Settings {
            epochs: Some(4.0),
            low_resolution_epochs: Some(low_resolution_epochs),
            patch_size: Some(16),
            global_crops_size: Some(dinolab_data::Size::square(96)),
            local_crops_size: Some(dinolab_data::Size::square(48)),
            local_crops_number: Some(4),
            patch_drop_rate: Some(0.5),
            ..Settings::default()
        };
        settings.resolve(4_000).unwrap().0
    }

    #[test]
    fn steps_with_small_crops_are_less_of_the_work() {
        // Crops of 48 and 32 px: 2 · (4.5 + 1) + 4 · (4 + 1) tokens, then 2 · (18 + 1) + 4 · (9 + 1).
        let early = 31.0 / 78.0;
        let work = Work::new(&config(2), 40, 10).unwrap();
        assert_eq!(
            [0, 19, 20, 39].map(|step| work.cost(step)),
            [early, early, 1.0, 1.0]
        );
        assert_eq!(work.left(0), 20.0 * early + 20.0);
        assert_eq!(work.left(30), 10.0);
        assert_eq!([0, 40, 41].map(|done| work.share(done)), [0.0, 1.0, 1.0]);
        let half = work.share(20);
        assert!((half - early / (early + 1.0)).abs() < 1e-12, "{half}");
    }

    #[test]
    fn without_them_all_steps_are_equal() {
        let work = Work::new(&config(0), 40, 10).unwrap();
        assert_eq!(work, Work::uniform(40));
        assert_eq!((work.share(10), work.left(10)), (0.25, 30.0));
        // A run that is stopped before its early part ends.
        let cut = Work::new(&config(3), 20, 10).unwrap();
        assert_eq!(cut.share(10), 0.5);
        assert_eq!(Work::uniform(0).share(0), 1.0);
    }
}
