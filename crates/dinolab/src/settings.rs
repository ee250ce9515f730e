//! A run's settings: from flags over a file over defaults, to a complete configuration.

use std::path::PathBuf;

use dinolab_data::augment::normalise::{IMAGENET_MEAN, IMAGENET_STD};
use dinolab_nn::Precision;
use dinolab_train::OptimiserKind;
use serde::{Deserialize, Serialize};

use dinolab_data::decode::MAX_CHANNELS;
use dinolab_data::{Pixels, Size};

use crate::values::{Numbers, Pair, PixelKind};

/// Declares every setting once: `name: type` (decided by [`Settings::resolve`]) or
/// `name: type = default`. Makes [`Settings`], all optional, which flags and files fill; and
/// [`Config`], all present, which a run follows and records.
macro_rules! settings {
    ($( $(#[$meta:meta])* $([$($arg:tt)*])? $name:ident: $type:ty $(= $default:expr)?; )*) => {
        /// Settings as given: by flags, by a file, or not at all.
        #[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Settings {
            $( $(#[$meta])* #[arg(long $(, $($arg)*)?)] #[serde(skip_serializing_if = "Option::is_none")]
               pub $name: Option<$type>, )*
        }

        /// A complete configuration: what `config.toml` of a run folder holds.
        ///
        /// One that was written before a setting existed is read with that setting's default.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", try_from = "Settings")]
        pub struct Config {
            $( $(#[$meta])* pub $name: $type, )*
        }

        impl Settings {
            /// These settings, and `base`'s where these say nothing.
            pub fn over(self, base: Self) -> Self {
                Self { $( $name: self.$name.or(base.$name), )* }
            }

            /// With the defaults that do not depend on anything.
            fn with_defaults(self) -> Self {
                Self { $( $name: self.$name $( .or_else(|| Some($default)) )?, )* }
            }

            /// Errs with the name of a setting that is open.
            fn complete(self) -> Result<Config, &'static str> {
                Ok(Config { $( $name: self.$name.ok_or(stringify!($name))?, )* })
            }
        }

        impl Config {
            /// The names of settings that differ from `other`'s.
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if self.$name != other.$name { names.push(stringify!($name)); } )*
                names
            }
        }
    };
}

settings! {
    /// Where the images are, as the positional argument has it; empty for the built-in shapes
    [hide = true]
    images: PathBuf = PathBuf::new();
    /// Start from these weights instead of random ones
    weights: PathBuf = PathBuf::new();
    /// Resample the position embeddings of --weights to --image-size [default: false]
    resize_pos_embed: bool = false;

    /// vit_tiny, vit_small, vit_base, or custom with --width, --depth and --heads [default: vit_small]
    arch: String = "vit_small".into();
    /// Side of a patch in pixels [default: 16]
    patch_size: usize = 16;
    /// Width of a token; decided by --arch unless it is custom
    width: usize;
    /// Number of blocks; decided by --arch unless it is custom
    depth: usize;
    /// Attention heads; decided by --arch unless it is custom
    heads: usize;
    /// Trained image size, a square: position embeddings are made for it [default: the global crops' longer side]
    image_size: usize;
    /// Number of prototypes K [default: by the number of images]
    out_dim: usize;
    /// Keep prototypes at unit length: steadier, a little worse [default: true]
    norm_last_layer: bool = true;
    /// Batch normalisation in the head [default: false]
    use_bn_in_head: bool = false;
    /// Width of the head's hidden layers [default: 2048]
    head_hidden_dim: usize = 2048;
    /// Width of the head's bottleneck [default: 256]
    head_bottleneck_dim: usize = 256;
    /// Linear maps in the head [default: 3]
    head_layers: usize = 3;
    /// Stochastic depth of the student [default: 0.1]
    drop_path_rate: f64 = 0.1;

    /// Teacher momentum at the start; it rises to 1 [default: by the number of images]
    momentum_teacher: f64;
    /// Teacher temperature after its warm-up [default: by the number of images]
    teacher_temp: f64;
    /// Teacher temperature at the start [default: the same]
    warmup_teacher_temp: f64;
    /// Epochs of the teacher temperature's warm-up [default: 0]
    warmup_teacher_temp_epochs: u64 = 0;
    /// Student temperature [default: 0.1]
    student_temp: f64 = 0.1;
    /// Momentum of the centre [default: 0.9]
    center_momentum: f64 = 0.9;

    /// adamw, sgd or lars [default: adamw]
    [value_parser = crate::values::optimizer]
    optimizer: OptimiserKind = OptimiserKind::AdamW;
    /// Length of the schedules, in epochs; may be a fraction [default: 100]
    epochs: f64 = 100.0;
    /// Images per step, or per micro-batch with --accumulate [default: 64]
    [alias = "batch-size-per-gpu"]
    batch_size: usize = 64;
    /// Micro-batches per step; n of them equal a batch n times as large [default: 1]
    accumulate: usize = 1;
    /// Learning rate for a batch of 256; scaled by the batch size [default: 0.0005]
    lr: f64 = 0.0005;
    /// Learning rate at the end [default: 1e-6]
    min_lr: f64 = 1e-6;
    /// Epochs of the learning rate's warm-up [default: 10, or a tenth of a shorter run]
    warmup_epochs: f64;
    /// Weight decay at the start [default: 0.04]
    weight_decay: f64 = 0.04;
    /// Weight decay at the end [default: 0.4]
    weight_decay_end: f64 = 0.4;
    /// Largest norm of each tensor's gradient; 0 for no limit [default: 3]
    clip_grad: f64 = 3.0;
    /// Epochs during which the prototypes are frozen [default: 1]
    freeze_last_layer: u64 = 1;

    /// Side of the global crops, or HEIGHTxWIDTH [default: 224]
    global_crops_size: Size = Size::square(224);
    /// Share of the image that global crops cover, as MIN,MAX [default: 0.4,1]
    global_crops_scale: Pair = Pair(0.4, 1.0);
    /// Number of local crops [default: 8]
    local_crops_number: usize = 8;
    /// Side of the local crops, or HEIGHTxWIDTH [default: 96]
    local_crops_size: Size = Size::square(96);
    /// Share of the image that local crops cover, as MIN,MAX [default: 0.05,0.4]
    local_crops_scale: Pair = Pair(0.05, 0.4);
    /// Channels of the images, 1 to 16; other than 3, or with --pixels stored, files are taken as
    /// they are, 16 bits included [default: 3]
    [alias = "channels"]
    in_chans: usize = 3;
    /// rgb: 8-bit RGB whatever a file holds; stored: a file's own channels and depth
    /// [default: rgb for 3 channels, else stored]
    [value_enum]
    pixels: PixelKind;
    /// Channel means of values in 0-1, as A,B,C [default: ImageNet's; of stored pixels measured]
    mean: Numbers;
    /// Channel deviations of values in 0-1 [default: ImageNet's; of stored pixels measured]
    std: Numbers;

    /// Seed of everything random [default: 0]
    seed: u64 = 0;
    /// Threads that read and crop images [default: all cores]
    num_workers: usize;
    /// Files read at once while images are cropped; more for slow storage [default: 16]
    read_ahead: usize = dinolab_data::loader::READ_AHEAD;
    /// Memory for decoded images, in MiB [default: 1024]
    cache_mb: u64 = 1024;
    /// Read tar shards one after the other, shuffled among so many images at a time; 0 for any
    /// order at all [default: 0]
    shuffle_buffer: usize = 0;
    /// Decode JPEG photographs of 12 megapixels and more to half or a quarter of their size, where
    /// that leaves crops their pixels [default: true]
    scaled_decoding: bool;
    /// Largest share of unusable images, in percent [default: 1]
    max_bad_images: f64 = 1.0;
    /// Images with more pixels than this are refused [default: 178956970]
    max_pixels: u64 = 178_956_970;
    /// cpu, or cuda:N, metal, vulkan:N, rocm:N where built with them [default: cpu]
    device: String = "cpu".into();
    /// Activations and matrix products in f32 or bf16; the rest is always in f32 [default: f32]
    precision: Precision = Precision::F32;

    /// Labelled images to judge k-NN by [default: a slice held out of the training images]
    val: PathBuf = PathBuf::new();
    /// Share of labelled training images to hold out where there is no --val [default: 0.1]
    holdout: f64 = 0.1;
    /// Evaluate every so many epochs; 0 for never [default: a tenth of the run]
    eval_every: u64;
    /// Shortest side for evaluation, or HEIGHTxWIDTH to cover [default: 256/224 of the crop]
    eval_resize: Size;
    /// Centre crop for evaluation, a side or HEIGHTxWIDTH [default: the global crops' size]
    eval_crop: Size;
    /// Neighbours that vote [default: 20]
    knn_k: usize = 20;
    /// Temperature of the votes [default: 0.07]
    knn_temp: f64 = 0.07;
    /// Side of the images in attention pictures, or HEIGHTxWIDTH [default: 480, or twice the crop
    /// if that is less]
    attend_size: Size;
    /// Images in each attention picture [default: 6]
    attend_images: usize = 6;

    /// Stop after so many epochs, schedules unchanged; 0 for the whole run [default: 0]
    stop_after_epochs: f64 = 0.0;
    /// Checkpoint every so many epochs [default: 1]
    checkpoint_every: u64 = 1;
    /// Checkpoint every so many steps besides; 0 for never [default: 500]
    checkpoint_every_steps: u64 = 500;
    /// Keep for good the checkpoint of every so many epochs; 0 for none [default: 20]
    saveckp_freq: u64 = 20;
    /// Write a line of metrics every so many steps [default: 10]
    log_every: u64 = 10;

    /// Images of the built-in shapes set [default: 4096]
    shapes_images: usize = 4096;
    /// Side of the built-in shapes images [default: 64]
    shapes_size: usize = 64;
}

/// What a setting was decided by, to be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice(pub String);

impl Settings {
    /// The recipe of the built-in `shapes` set: small enough to learn in minutes on two cores.
    pub fn shapes() -> Self {
        Self {
            arch: Some("custom".into()),
            patch_size: Some(8),
            width: Some(128),
            depth: Some(4),
            heads: Some(4),
            drop_path_rate: Some(0.0),
            out_dim: Some(512),
            head_hidden_dim: Some(512),
            head_bottleneck_dim: Some(128),
            teacher_temp: Some(0.02),
            epochs: Some(6.5),
            batch_size: Some(16),
            lr: Some(0.003),
            warmup_epochs: Some(1.0),
            weight_decay_end: Some(0.04),
            global_crops_size: Some(Size::square(48)),
            local_crops_size: Some(Size::square(24)),
            local_crops_number: Some(8),
            eval_every: Some(2),
            eval_resize: Some(Size::square(56)),
            attend_size: Some(Size::square(64)),
            ..Self::default()
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
    /// A setting out of its range, named by its flag.
    pub fn resolve(self, images: usize) -> anyhow::Result<(Config, Vec<Choice>)> {
        let mut choices = Vec::new();
        let mut s = self.with_defaults();
        let arch = s.arch.clone().unwrap_or_default();
        match dinolab_nn::VitConfig::named(&arch, 16, 224) {
            Some(named) => {
                let sizes = [
                    ("width", &mut s.width, named.width),
                    ("depth", &mut s.depth, named.depth),
                    ("heads", &mut s.heads, named.heads),
                ];
                for (name, slot, fixed) in sizes {
                    let given = *slot.get_or_insert(fixed);
                    anyhow::ensure!(
                        given == fixed,
                        "--{name} {given}: {arch} has {fixed}; use --arch custom for other sizes"
                    );
                }
            }
            None if arch == "custom" => {
                let (Some(width), Some(_)) = (s.width, s.depth) else {
                    anyhow::bail!("--arch custom needs --width and --depth");
                };
                s.heads.get_or_insert((width / 64).max(1));
            }
            None => anyhow::bail!("--arch {arch}: one of vit_tiny, vit_small, vit_base, custom"),
        }

        let fit = Fit::of(images);
        let mut decide =
            |name: &str, value: String| choices.push(Choice(format!("{name} {value}")));
        if s.out_dim.is_none() {
            decide("--out-dim", s.out_dim.insert(fit.out_dim).to_string());
        }
        if s.teacher_temp.is_none() {
            decide(
                "--teacher-temp",
                s.teacher_temp.insert(fit.teacher_temp).to_string(),
            );
        }
        if s.momentum_teacher.is_none() {
            decide(
                "--momentum-teacher",
                s.momentum_teacher.insert(fit.momentum).to_string(),
            );
        }
        s.warmup_teacher_temp = s.warmup_teacher_temp.or(s.teacher_temp);
        let epochs = s.epochs.unwrap_or_default();
        s.warmup_epochs.get_or_insert(10f64.min(epochs * 0.1));
        s.eval_every
            .get_or_insert(((epochs / 10.0).round() as u64).max(1));
        let crop = s.global_crops_size.unwrap_or_default();
        s.image_size.get_or_insert(crop.longest());
        let eval_crop = *s.eval_crop.get_or_insert(crop);
        s.eval_resize
            .get_or_insert(eval_crop.map(|side| (side * 8).div_ceil(7)));
        s.attend_size.get_or_insert_with(|| {
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
        anyhow::ensure!(
            s.mean.is_some() && s.std.is_some(),
            "--mean and --std: needed for images taken as stored"
        );
        s.num_workers
            .get_or_insert_with(|| std::thread::available_parallelism().map_or(1, usize::from));
        if let Some(batch) = s
            .batch_size
            .as_mut()
            .filter(|batch| **batch > images && images > 0)
        {
            choices.push(Choice(format!(
                "--batch-size {images} (instead of {batch}: there are only {images} images)"
            )));
            *batch = images;
        }
        let config = s.complete().expect("every setting has been decided");
        config.validate()?;
        Ok((config, choices))
    }
}

/// Defaults for a number of images: few images need few prototypes, a sharper teacher, and a
/// teacher that follows faster, since there are fewer steps to follow in.
struct Fit {
    out_dim: usize,
    teacher_temp: f64,
    momentum: f64,
}

impl Fit {
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

impl TryFrom<Settings> for Config {
    type Error = String;

    fn try_from(settings: Settings) -> Result<Self, String> {
        let mut settings = settings.with_defaults();
        settings
            .pixels
            .get_or_insert(PixelKind::of(settings.pixels()));
        // Runs decoded everything in full before there was a choice.
        settings.scaled_decoding.get_or_insert(false);
        let complete = settings.complete();
        complete.map_err(|name| format!("has no {}", name.replace('_', "-")))
    }
}

impl Config {
    /// Checks the ranges that no library checks.
    fn validate(&self) -> anyhow::Result<()> {
        let positive = [
            ("epochs", self.epochs),
            ("teacher-temp", self.teacher_temp),
            ("warmup-teacher-temp", self.warmup_teacher_temp),
            ("student-temp", self.student_temp),
            ("knn-temp", self.knn_temp),
        ];
        for (name, value) in positive {
            anyhow::ensure!(
                value > 0.0 && value.is_finite(),
                "--{name} {value}: must be above 0"
            );
        }
        let not_negative = [
            ("lr", self.lr),
            ("min-lr", self.min_lr),
            ("warmup-epochs", self.warmup_epochs),
            ("weight-decay", self.weight_decay),
            ("weight-decay-end", self.weight_decay_end),
            ("clip-grad", self.clip_grad),
            ("stop-after-epochs", self.stop_after_epochs),
        ];
        for (name, value) in not_negative {
            anyhow::ensure!(
                value >= 0.0 && value.is_finite(),
                "--{name} {value}: must not be below 0"
            );
        }
        let shares = [
            ("momentum-teacher", self.momentum_teacher, 1.0),
            ("center-momentum", self.center_momentum, 1.0),
            ("drop-path-rate", self.drop_path_rate, 0.99),
            ("holdout", self.holdout, 0.9),
            ("max-bad-images", self.max_bad_images, 100.0),
        ];
        for (name, value, most) in shares {
            anyhow::ensure!(
                (0.0..=most).contains(&value),
                "--{name} {value}: must be between 0 and {most}"
            );
        }
        let counts = [
            ("batch-size", self.batch_size),
            ("accumulate", self.accumulate),
            ("num-workers", self.num_workers),
            ("knn-k", self.knn_k),
            ("eval-crop", self.eval_crop.shortest()),
            ("attend-size", self.attend_size.shortest()),
        ];
        for (name, value) in counts {
            anyhow::ensure!(value > 0, "--{name} 0: must be at least 1");
        }
        anyhow::ensure!(
            (1..=MAX_CHANNELS).contains(&self.in_chans),
            "--in-chans {}: must be between 1 and {MAX_CHANNELS}",
            self.in_chans
        );
        anyhow::ensure!(
            self.pixels != PixelKind::Rgb || self.in_chans == 3,
            "--pixels rgb: has 3 channels, not --in-chans {}; use --pixels stored",
            self.in_chans
        );
        for (name, numbers) in [("mean", &self.mean), ("std", &self.std)] {
            anyhow::ensure!(
                numbers.0.len() == self.in_chans,
                "--{name}: {} numbers for --in-chans {}",
                numbers.0.len(),
                self.in_chans
            );
        }
        for (name, size) in [
            ("global", self.global_crops_size),
            ("local", self.local_crops_size),
        ] {
            // A square keeps the reference's way: pixels beyond whole patches are left out.
            let whole = |side: usize| side.is_multiple_of(self.patch_size.max(1));
            anyhow::ensure!(
                size.is_square() || (whole(size.height) && whole(size.width)),
                "--{name}-crops-size {size}: both sides must be multiples of the patch size {}",
                self.patch_size
            );
        }
        anyhow::ensure!(
            !(self.use_bn_in_head && self.accumulate > 1),
            "--accumulate {}: with --use-bn-in-head true, micro-batches do not equal a large batch, \
             since each is normalised by itself; use one or the other",
            self.accumulate
        );
        Ok(())
    }

    /// The kind of images.
    pub fn pixels(&self) -> Pixels {
        match self.pixels {
            PixelKind::Rgb => Pixels::Rgb,
            PixelKind::Stored => Pixels::Stored {
                channels: self.in_chans,
            },
        }
    }

    /// The learning rate for this batch size.
    pub fn scaled_lr(&self) -> f64 {
        self.lr * (self.batch_size * self.accumulate) as f64 / 256.0
    }

    /// The run's settings for the training library.
    pub fn plan(&self) -> anyhow::Result<dinolab_train::run::Plan> {
        let crops = dinolab_data::augment::MultiCrop {
            global_size: self.global_crops_size,
            global_scale: (self.global_crops_scale.0, self.global_crops_scale.1),
            local_size: self.local_crops_size,
            local_scale: (self.local_crops_scale.0, self.local_crops_scale.1),
            local_views: self.local_crops_number,
            pixels: self.pixels(),
            mean: self.mean.0.clone(),
            std: self.std.0.clone(),
            ..Default::default()
        };
        Ok(dinolab_train::run::Plan {
            dino: self.dino(),
            schedule: dinolab_train::ScheduleConfig {
                epochs: self.epochs,
                steps_per_epoch: 0,
                lr: self.scaled_lr(),
                min_lr: self.min_lr,
                warmup_epochs: self.warmup_epochs,
                weight_decay: self.weight_decay,
                weight_decay_end: self.weight_decay_end,
                momentum_teacher: self.momentum_teacher,
                warmup_teacher_temp: self.warmup_teacher_temp,
                teacher_temp: self.teacher_temp,
                warmup_teacher_temp_epochs: self.warmup_teacher_temp_epochs,
            },
            crops,
            loader: dinolab_data::LoaderConfig {
                batch_size: self.batch_size,
                workers: self.num_workers,
                read_ahead: self.read_ahead,
                queue: 2 * self.batch_size,
                seed: self.seed,
                max_bad_images: self.max_bad_images / 100.0,
                cache_bytes: self.cache_mb << 20,
                shuffle_buffer: self.shuffle_buffer,
                scaled_decoding: self.scaled_decoding,
            },
            accumulate: self.accumulate,
            stop_after_epochs: (self.stop_after_epochs > 0.0).then_some(self.stop_after_epochs),
            checkpoint_every: self.checkpoint_every,
            checkpoint_every_steps: self.checkpoint_every_steps,
            keep_every: self.saveckp_freq,
            initial: None,
            config: toml::to_string(self)?,
            facts: self.preprocess().facts(),
        })
    }

    fn dino(&self) -> dinolab_train::DinoConfig {
        dinolab_train::DinoConfig {
            vit: dinolab_nn::VitConfig {
                image_size: self.image_size,
                patch_size: self.patch_size,
                channels: self.in_chans,
                width: self.width,
                depth: self.depth,
                heads: self.heads,
                ..Default::default()
            },
            head: dinolab_nn::HeadConfig {
                out_dim: self.out_dim,
                hidden_dim: self.head_hidden_dim,
                bottleneck_dim: self.head_bottleneck_dim,
                layers: self.head_layers,
                use_bn: self.use_bn_in_head,
                norm_last_layer: self.norm_last_layer,
            },
            optimizer: self.optimizer,
            clip_grad: self.clip_grad,
            freeze_last_layer: self.freeze_last_layer,
            student_temp: self.student_temp,
            center_momentum: self.center_momentum,
            drop_path: self.drop_path_rate,
            seed: self.seed,
            precision: self.precision,
        }
    }

    /// How images become features.
    pub fn preprocess(&self) -> dinolab_eval::features::Preprocess {
        dinolab_eval::features::Preprocess {
            resize: self.eval_resize,
            crop: self.eval_crop,
            mean: self.mean.0.clone(),
            std: self.std.0.clone(),
            stored: self.pixels == PixelKind::Stored,
        }
    }
}
