//! From what was given to a complete configuration.

use dinolab_data::Pixels;
use dinolab_data::augment::normalise::{IMAGENET_MEAN, IMAGENET_STD};
use dinolab_nn::{BackboneConfig, VitConfig};
use dinolab_train::SimDinoConfig;

use super::{Config, Settings};
use crate::error::{Error, Result};
use crate::values::{CenteringKind, MethodKind, Numbers, PixelKind};

/// A setting that was decided by the number of images, or for weights to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSetting {
    /// The setting.
    pub setting: &'static str,
    /// The value that was chosen.
    pub value: String,
    /// The value that was asked for, if there are too few images for it.
    pub instead_of: Option<String>,
    /// The reason, if it is another than the number of images.
    pub because: Option<&'static str>,
}

impl AutoSetting {
    /// The setting, its value and the reason, for a run over `images` images.
    pub fn in_words(&self, images: usize) -> String {
        let Self { setting, value, .. } = self;
        match (&self.instead_of, self.because) {
            (Some(asked), _) => {
                format!("{setting} {value} (instead of {asked}: there are only {images} images)")
            }
            (None, Some(because)) => format!("{setting} {value}, {because}"),
            (None, None) => format!("{setting} {value}, chosen for {images} images"),
        }
    }
}

/// Width, depth and heads of a network that is asked for by its name, of which a convolutional one may have
/// another `width`.
///
/// # Errors
/// [`Error::BadSetting`] for a width that it cannot have.
fn fixed_sizes(arch: &str, width: Option<usize>) -> Result<Option<[(&'static str, usize); 3]>> {
    let (width, depth, heads) = match BackboneConfig::convolutional(arch, 3) {
        Some(network) => {
            let (depth, step) = (network.depth(), network.width_step());
            let width = width.unwrap_or(network.width());
            ensure_setting!(
                network.of_width(width).is_some(),
                "width",
                width,
                "of {arch} it must be a multiple of {step}"
            );
            (width, depth, 1)
        }
        None => {
            let Some(vit) = VitConfig::named(arch, 16, 224) else {
                return Ok(None);
            };
            (vit.width, vit.depth, vit.heads)
        }
    };
    Ok(Some([("width", width), ("depth", depth), ("heads", heads)]))
}

/// The names of the networks that there are, in a list.
pub(crate) fn arch_names() -> String {
    let names = VitConfig::NAMES.into_iter();
    let names: Vec<_> = names.chain(BackboneConfig::convolutional_names()).collect();
    names.join(", ")
}

impl Settings {
    /// Defaults that depend on the method.
    fn of_method(method: MethodKind) -> Self {
        let method_alone = Self {
            method: Some(method),
            ..Self::default()
        };
        match method {
            MethodKind::SimDino => method_alone,
            MethodKind::DinoV2 => Self {
                centering: Some(CenteringKind::Sinkhorn),
                koleo_weight: Some(0.2),
                ..method_alone
            },
            MethodKind::Dino => Self {
                sigreg_weight: Some(0.0),
                ..method_alone
            },
            MethodKind::Distill => Self {
                head_layers: Some(1),
                local_crops_number: Some(0),
                weight_decay: Some(0.05),
                weight_decay_end: Some(0.05),
                ..method_alone
            },
            MethodKind::LeJepa | MethodKind::VisReg => Self {
                head_hidden_dim: Some(512),
                weight_decay: Some(0.05),
                weight_decay_end: Some(0.05),
                ..method_alone
            },
        }
    }

    /// The kind of images: as asked for, or 8-bit RGB where there are three channels.
    pub fn pixels(&self) -> Pixels {
        let channels = self.in_chans.unwrap_or(3);
        match (self.pixels, channels) {
            (Some(PixelKind::Rgb), _) | (None, 3) => Pixels::Rgb,
            (Some(PixelKind::Stored), channels) | (None, channels) => Pixels::Stored { channels },
        }
    }

    /// Decides what is still open, by the number of training images, and says what it decided.
    ///
    /// # Errors
    /// A setting out of its range.
    pub fn resolve(self, images: usize) -> Result<(Config, Vec<AutoSetting>)> {
        let mut choices = Vec::new();
        let method = self.method.unwrap_or(MethodKind::Dino);
        let mut s = self.over(Self::of_method(method)).with_defaults();
        let arch = s.arch.clone().unwrap_or_default();
        match fixed_sizes(&arch, s.width)? {
            Some(fixed) => {
                let slots = [&mut s.width, &mut s.depth, &mut s.heads];
                for ((name, fixed), slot) in fixed.into_iter().zip(slots) {
                    let given = *slot.get_or_insert(fixed);
                    ensure_setting!(
                        given == fixed,
                        name,
                        given,
                        "{arch} has {fixed}; use `arch` custom for other sizes"
                    );
                }
            }
            None if arch == "custom" => {
                let (Some(width), Some(_)) = (s.width, s.depth) else {
                    let reason = "needs `width` and `depth`";
                    return Err(Error::setting("arch", "custom", reason));
                };
                s.heads.get_or_insert((width / 64).max(1));
            }
            None => {
                let reason = format!("one of {}, custom", arch_names());
                return Err(Error::setting("arch", arch, reason));
            }
        }

        if let Some(network) = BackboneConfig::convolutional(&arch, 3) {
            // What a position of the last grid stands for, whatever a recipe says of patches.
            s.patch_size = Some(network.stride());
        }

        let fit = SizeDefaults::of(images);
        let mut decide = |setting: &'static str, value| {
            // Of another method it is not a choice, and written nowhere.
            if method.has(&setting.replace('-', "_")) {
                choices.push(AutoSetting {
                    setting,
                    value,
                    instead_of: None,
                    because: None,
                });
            }
        };
        if s.out_dim.is_none() {
            decide("out-dim", s.out_dim.insert(fit.out_dim).to_string());
        }
        s.ibot_out_dim = s.ibot_out_dim.or(s.out_dim);
        if s.teacher_temp.is_none() {
            decide(
                "teacher-temp",
                s.teacher_temp.insert(fit.teacher_temp).to_string(),
            );
        }
        if s.momentum_teacher.is_none() {
            decide(
                "momentum-teacher",
                s.momentum_teacher.insert(fit.momentum).to_string(),
            );
        }
        s.warmup_teacher_temp = s.warmup_teacher_temp.or(s.teacher_temp);
        s.average_momentum_end = s.average_momentum_end.or(s.average_momentum);
        s.suggest_lora_alpha();
        let epochs = s.epochs.unwrap_or_default();
        s.warmup_epochs.get_or_insert(10f64.min(epochs * 0.1));
        s.eval_every
            .get_or_insert(((epochs / 10.0).round() as u64).max(1));
        let crop = s.global_crops_size.unwrap_or_default();
        s.image_size.get_or_insert(crop.longest());
        let eval_crop = *s.eval_crop.get_or_insert(crop);
        s.eval_resize
            .get_or_insert(eval_crop.map(|side| (side * 8).div_ceil(7)));
        s.attention_size.get_or_insert_with(|| {
            let longest = 480.min(2 * crop.longest());
            crop.map(|side| side * longest / crop.longest().max(1))
        });
        if s.pixels() == Pixels::Rgb {
            s.mean
                .get_or_insert_with(|| Numbers(IMAGENET_MEAN.to_vec()));
            s.std.get_or_insert_with(|| Numbers(IMAGENET_STD.to_vec()));
        }
        s.pixels.get_or_insert(PixelKind::of(s.pixels()));
        s.scaled_decoding.get_or_insert(true);
        ensure_setting!(
            s.mean.is_some() && s.std.is_some(),
            "mean",
            "",
            "needed, and `std` with it, for images taken as stored"
        );
        s.num_workers
            .get_or_insert_with(|| std::thread::available_parallelism().map_or(1, usize::from));
        if let Some(batch) = s
            .batch_size
            .as_mut()
            .filter(|batch| **batch > images && images > 0)
        {
            choices.push(AutoSetting {
                setting: "batch-size",
                value: images.to_string(),
                instead_of: Some(batch.to_string()),
                because: None,
            });
            *batch = images;
        }
        s.suggest_coding_rate();
        let config = s.complete().expect("every setting has been decided");
        config.validate()?;
        Ok((config, choices))
    }
}

/// Defaults for a number of images: few images need few prototypes, a sharper teacher, and a
/// teacher that follows faster, since there are fewer steps to follow in.
struct SizeDefaults {
    out_dim: usize,
    teacher_temp: f64,
    momentum: f64,
}

impl SizeDefaults {
    fn of(images: usize) -> Self {
        let (out_dim, teacher_temp, momentum) = match images {
            0..=20_000 => (1024, 0.03, 0.99),
            20_001..=50_000 => (2048, 0.03, 0.992),
            50_001..=100_000 => (4096, 0.04, 0.994),
            100_001..=200_000 => (16_384, 0.04, 0.996),
            _ => (65_536, 0.04, 0.996),
        };
        Self {
            out_dim,
            teacher_temp,
            momentum,
        }
    }
}

/// The default number of prototypes for a number of images.
pub(crate) fn suited_out_dim(images: usize) -> usize {
    SizeDefaults::of(images).out_dim
}

impl Settings {
    /// The weight of the coding rate that suits width and batch.
    fn suggest_coding_rate(&mut self) {
        let width = self.head_bottleneck_dim.unwrap_or_default();
        let batch = self.batch_size.unwrap_or_default();
        self.coding_rate_weight
            .get_or_insert(SimDinoConfig::suggested_weight(width, batch));
    }

    /// A change that is taken as it is, whatever its rank.
    fn suggest_lora_alpha(&mut self) {
        let rank = self.lora_rank.unwrap_or_default();
        self.lora_alpha.get_or_insert(rank.max(1) as f64);
    }

    /// Values for what other methods than `method` have, which nothing reads.
    fn fill_foreign(&mut self, method: MethodKind) {
        let fit = SizeDefaults::of(0);
        let foreign = |name: &str| !method.has(name);
        if foreign("out_dim") {
            self.out_dim.get_or_insert(fit.out_dim);
        }
        if foreign("ibot_out_dim") {
            self.ibot_out_dim = self.ibot_out_dim.or(self.out_dim);
        }
        if foreign("teacher_temp") {
            self.teacher_temp.get_or_insert(fit.teacher_temp);
            self.warmup_teacher_temp.get_or_insert(fit.teacher_temp);
        }
        if foreign("momentum_teacher") {
            self.momentum_teacher.get_or_insert(fit.momentum);
        }
        if foreign("coding_rate_weight") {
            self.suggest_coding_rate();
        }
        // Configurations of DINO had none before it could be evaluated by an average.
        self.average_momentum_end = self.average_momentum_end.or(self.average_momentum);
    }
}

impl TryFrom<Settings> for Config {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        // Runs were DINO's before there was a choice.
        let method = settings.method.unwrap_or(MethodKind::Dino);
        let mut settings = settings.with_recipe_of_before();
        settings = settings.over(Settings::of_method(method)).with_defaults();
        settings.fill_foreign(method);
        settings.suggest_lora_alpha();
        settings
            .pixels
            .get_or_insert(PixelKind::of(settings.pixels()));
        // Runs decoded everything in full before there was a choice.
        settings.scaled_decoding.get_or_insert(false);
        let complete = settings.complete();
        complete.map_err(|name| format!("has no {}", name.replace('_', "-")))
    }
}

#[cfg(test)]
mod tests {
    use dinolab_data::Size;

    use super::*;

    #[test]
    fn keys_of_before_are_read() {
        let text = "max-bad-images = 2.5\nattend-size = 64\nattend-images = 3\n";
        let settings: Settings = toml::from_str(text).unwrap();
        assert_eq!(settings.max_unusable_percent, Some(2.5));
        assert_eq!(settings.attention_size, Some(Size::square(64)));
        assert_eq!(settings.attention_images, Some(3));
        let unknown: Result<Settings, _> = toml::from_str("attend-sides = 64");
        assert!(unknown.is_err());
    }
}
