//! A run's settings: from what is given over a file over defaults, to a complete configuration.

use std::path::PathBuf;

use dinolab_data::Size;
use dinolab_nn::position::{PositionRule, ROPE_THETA};
use dinolab_nn::{Feature, Precision};
use dinolab_train::OptimiserKind;
use serde::{Deserialize, Serialize};

use crate::values::{
    CenteringKind, EvaluatedKind, FfnKind, IbotHeadKind, MethodKind, Numbers, Pair, PerView,
    PixelKind, PositionKind, RecipeKind, StemKind, TimeBudget,
};

pub(crate) mod adapt;
mod change;
mod method;
mod network;
mod plan;
pub(crate) mod recipe;
pub(crate) mod resolve;
mod teacher;
mod validate;
mod work;

pub use change::{Meaning, meaning};
pub use resolve::AutoSetting;
pub(crate) use resolve::suited_out_dim;
pub use work::Work;

/// Declares every setting once, in groups: `name: type` (decided by [`Settings::resolve`]) or
/// `name: type = default`. Settings of a group `of [METHODS]` belong to these methods alone. Makes [`Settings`], all optional, which flags and files fill; and
/// [`Config`], all present, which a run follows and records.
macro_rules! settings {
    ($( $group:literal $(of [$($method:ident),*])? {
        $( $(#[$meta:meta])* $([$($arg:tt)*])? $name:ident: $type:ty $(= $default:expr)?; )*
    } )*) => {
        /// Settings as given: by flags, by a file, or not at all.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "clap", derive(clap::Args))]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Settings {
            $( $( $(#[$meta])*
               #[cfg_attr(feature = "clap", arg(long, help_heading = $group $(, $($arg)*)?))]
               #[serde(skip_serializing_if = "Option::is_none")]
               pub $name: Option<$type>, )* )*
        }

        /// A complete configuration: what `config.toml` of a run folder holds.
        ///
        /// One that was written before a setting existed is read with that setting's default.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", try_from = "Settings", into = "Settings")]
        pub struct Config {
            $( $( $(#[$meta])* pub $name: $type, )* )*
        }

        impl Settings {
            /// These settings, and `base`'s where these say nothing.
            pub fn over(self, base: Self) -> Self {
                Self { $( $( $name: self.$name.or(base.$name), )* )* }
            }

            /// With the defaults that do not depend on anything.
            fn with_defaults(self) -> Self {
                Self { $( $( $name: self.$name $( .or_else(|| Some($default)) )?, )* )* }
            }

            /// These settings, without those that `keep` is false of.
            fn keep(self, keep: impl Fn(&str) -> bool) -> Self {
                Self { $( $( $name: self.$name.filter(|_| keep(stringify!($name))), )* )* }
            }

            /// The names of the settings that are given.
            pub fn given(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( $( if self.$name.is_some() { names.push(stringify!($name)); } )* )*
                names
            }

            /// The methods that alone have a setting, by its name; `None` for a setting of all.
            fn methods(name: &str) -> Option<&'static [MethodKind]> {
                match name {
                    $( $( stringify!($name) )|* => settings!(@methods $($($method)*)?), )*
                    _ => None,
                }
            }

            /// Errs with the name of a setting that is open.
            fn complete(self) -> Result<Config, &'static str> {
                Ok(Config { $( $( $name: self.$name.ok_or(stringify!($name))?, )* )* })
            }
        }

        impl From<Config> for Settings {
            /// Without the settings of other methods, and of an average that there is not.
            fn from(config: Config) -> Self {
                let (method, averages) = (config.method, config.averages());
                let all = Self { $( $( $name: Some(config.$name), )* )* };
                all.keep(|name| method.has(name) && (averages || !name.starts_with("average_")))
            }
        }

        impl Config {
            /// The names of settings that differ from `other`'s.
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( $( if self.$name != other.$name { names.push(stringify!($name)); } )* )*
                // What the method does not have makes no difference.
                names.retain(|name| self.method.has(name) || other.method.has(name));
                names
            }
        }
    };
    (@methods) => { None };
    (@methods $($method:ident)+) => { Some(&[$(MethodKind::$method),+]) };
}

settings! {
    "Recipe" {
        /// Recipe for all settings that are not given [default: small on a CPU, paper on a GPU, shapes for
        /// the built-in set]
        [value_enum, value_name = "NAME"]
        recipe: RecipeKind = RecipeKind::Paper;
        /// Choose network size and --epochs so that the run takes about this long on this machine (45m, 8h,
        /// 1h30m); 0s disables [default: 0s]
        [value_name = "TIME"]
        time: TimeBudget = TimeBudget::default();
    }

    "Model" {
        /// Training method [default: lejepa; dino with --recipe paper]
        [value_enum, value_name = "METHOD"]
        method: MethodKind;
        /// Start from these weights (run folder, checkpoint, weight file, model folder or hf:OWNER/NAME)
        /// instead of random ones
        [value_name = "W"]
        weights: PathBuf = PathBuf::new();
        /// Resample the position embeddings of --weights to --image-size [default: false]
        [value_name = "BOOL"]
        resize_pos_embed: bool = false;
        /// vit_tiny, _small or _base, resnet18, resnet34 or resnet50, convnext_atto, _femto, _pico, _nano,
        /// _tiny, _small, _base or _large, or custom with --width, --depth and --heads [default: vit_small]
        [value_name = "NAME"]
        arch: String = "vit_small".into();
        /// Patch size in pixels; 32 for convolutional networks [default: 16]
        [value_name = "PX"]
        patch_size: usize = 16;
        /// Width of the features: of a custom transformer's tokens, or of a convolutional network's last
        /// grid, to which its stages are in proportion
        [value_name = "N"]
        width: usize;
        /// Number of transformer blocks, with --arch custom
        [value_name = "N"]
        depth: usize;
        /// Number of attention heads, with --arch custom
        [value_name = "N"]
        heads: usize;
        /// Image side that the position embeddings are defined for [default: the longer side of the
        /// global crops]
        [value_name = "PX"]
        image_size: usize;
        /// What makes tokens of patches: one linear layer, or a convolutional stem
        /// [default: patchify, or that of --weights]
        [value_enum, value_name = "NAME"]
        stem: StemKind = StemKind::Patchify;
        /// Number of register tokens [default: 0, or those of --weights]
        [value_name = "N"]
        registers: usize = 0;
        /// Scale each residual branch by a learned vector [default: false, or as in --weights]
        [value_name = "BOOL", num_args = 0..=1, default_missing_value = "true"]
        layer_scale: bool = false;
        /// MLP of each block [default: mlp, or that of --weights]
        [value_enum, value_name = "NAME"]
        ffn: FfnKind = FfnKind::Mlp;
        /// Hidden width of the MLP; 0: 4 times the width, with swiglu two thirds of that in a multiple of 8
        /// [default: 0, or that of --weights]
        [value_name = "N"]
        ffn_width: usize = 0;
        /// Learned or rotary positions [default: learned, or those of --weights]
        [value_enum, value_name = "NAME"]
        positions: PositionKind = PositionKind::Learned;
        /// How learned positions follow other image sizes: dino, ratio or ratio-antialias
        /// [default: dino, or as in --weights]
        [value_name = "RULE"]
        position_rule: PositionRule = PositionRule::Dino;
        /// Base of the frequencies of rotary positions [default: 100]
        [value_name = "X"]
        rope_theta: f64 = ROPE_THETA;
        /// Shift the coordinates of rotary positions by up to X at random; 0 disables [default: 0]
        [value_name = "X"]
        rope_shift: f64 = 0.0;
        /// Multiply those of each axis by 1/X to X at random; 1 disables [default: 1]
        [value_name = "X"]
        rope_jitter: f64 = 1.0;
        /// Multiply those of both axes by 1/X to X at random; 1 disables [default: 2]
        [value_name = "X"]
        rope_rescale: f64 = 2.0;
        /// Epsilon of layer normalisation [default: 1e-6, or that of --weights]
        [value_name = "X"]
        layer_norm_eps: f64 = 1e-6;
        /// Input of the head, and the feature that later commands use: class (the class token), patches (the
        /// mean of the patch tokens) or both [default: class]
        [value_name = "FEATURE"]
        feature: Feature = Feature::Class;
        /// Width of the head's hidden layers [default: 2048; LeJEPA, VISReg: 512]
        [value_name = "N"]
        head_hidden_dim: usize = 2048;
        /// Number of linear layers in the head [default: 3; distill: 1]
        [value_name = "N"]
        head_layers: usize = 3;
        /// Stochastic depth rate [default: 0.1]
        [value_name = "X"]
        drop_path_rate: f64 = 0.1;
        /// Fraction of the patches of global views to drop (not for the teacher) [default: 0]
        [value_name = "X"]
        patch_drop_rate: f64 = 0.0;
        /// Precision of activations and matrix multiplications, f32 or bf16; everything else is f32
        /// [default: f32]
        [value_name = "TYPE"]
        precision: Precision = Precision::F32;
        /// cpu, or cuda:N, metal, vulkan:N, rocm:N if compiled in [default: cpu]
        [value_name = "DEVICE"]
        device: String = "cpu".into();
    }

    "DINO, DINOv2 and SimDINO" of [Dino, SimDino, DinoV2] {
        /// Width of the head's bottleneck (SimDINO: of the outputs) [default: 256]
        [value_name = "N"]
        head_bottleneck_dim: usize = 256;
        /// Teacher momentum at the start [default: chosen from the dataset size]
        [value_name = "X"]
        momentum_teacher: f64;
        /// Teacher momentum at the end [default: 1]
        [value_name = "X"]
        momentum_teacher_end: f64 = 1.0;
    }

    "DINO, DINOv2 and SimDINO" of [Dino, SimDino, DinoV2] {
        /// Which backbone to evaluate and to use in later commands [default: teacher]
        [value_enum, value_name = "NAME"]
        evaluated: EvaluatedKind = EvaluatedKind::Teacher;
    }

    "SimDINO" of [SimDino] {
        /// Weight of the coding rate [default: (d + B) / (d B), for outputs of width d and batches of B]
        [value_name = "X"]
        coding_rate_weight: f64;
        /// Distortion of the coding rate; smaller values reward finer differences [default: 0.5]
        [value_name = "X"]
        coding_rate_epsilon: f64 = 0.5;
    }

    "DINO and DINOv2" of [Dino, DinoV2] {
        /// Number of prototypes K [default: chosen from the dataset size]
        [value_name = "N"]
        out_dim: usize;
        /// Keep prototypes L2-normalised: more stable training, slightly worse features [default: true]
        [value_name = "BOOL"]
        norm_last_layer: bool = true;
        /// Teacher temperature after its warm-up [default: chosen from the dataset size]
        [value_name = "X"]
        teacher_temp: f64;
        /// Teacher temperature at the start [default: --teacher-temp]
        [value_name = "X"]
        warmup_teacher_temp: f64;
        /// Epochs of the teacher temperature's warm-up [default: 0]
        [value_name = "N"]
        warmup_teacher_temp_epochs: u64 = 0;
        /// Student temperature [default: 0.1]
        [value_name = "X"]
        student_temp: f64 = 0.1;
        /// How the teacher's outputs are balanced over prototypes [default: centre; DINOv2: sinkhorn]
        [value_enum, value_name = "NAME"]
        centering: CenteringKind = CenteringKind::Centre;
        /// Momentum of the centre [default: 0.9]
        [value_name = "X"]
        center_momentum: f64 = 0.9;
        /// Freeze the prototypes for N epochs [default: 1]
        [value_name = "N"]
        freeze_last_layer: u64 = 1;
        /// Weight of the KoLeo loss on the student's features of global views; 0 disables
        /// [default: 0; DINOv2: 0.2, the published 0.1 for each view]
        [value_name = "X"]
        koleo_weight: f64 = 0.0;
    }

    "DINO" of [Dino] {
        /// Use batch normalisation in the head [default: false]
        [value_name = "BOOL"]
        use_bn_in_head: bool = false;
    }

    "DINOv2" of [DinoV2] {
        /// Weight of the prediction of masked patches; 0 disables it and the masks [default: 1]
        [value_name = "X"]
        ibot_weight: f64 = 1.0;
        /// Head of the patch tokens [default: apart]
        [value_enum, value_name = "NAME"]
        ibot_head: IbotHeadKind = IbotHeadKind::Apart;
        /// Number of prototypes of the patch tokens' own head [default: --out-dim]
        [value_name = "N"]
        ibot_out_dim: usize;
        /// Fraction of the patches to mask in a masked view, as MIN,MAX [default: 0.1,0.5]
        [value_name = "MIN,MAX"]
        mask_ratio: Pair = Pair(0.1, 0.5);
        /// Fraction of the student's global views to mask [default: 0.5]
        [value_name = "X"]
        mask_sample_probability: f64 = 0.5;
    }

    "Distillation" of [Distill] {
        /// Network to learn from (run folder, checkpoint, weight file, model folder or hf:OWNER/NAME); stays as
        /// it is
        [value_name = "W"]
        teacher_weights: PathBuf = PathBuf::new();
        /// Shorter side of the crops as the teacher sees them, rounded to whole patches; 0: as the student
        /// [default: 0]
        [value_name = "PX"]
        teacher_size: usize = 0;
        /// Draw new crops in the first N epochs only, and repeat them in turn: what the teacher says of them is
        /// computed once and kept in the run folder; 0: new crops in every epoch [default: 0]
        [value_name = "N"]
        fixed_crops: u64 = 0;
        /// Weight of the teacher's features in the loss; 0 disables [default: 1]
        [value_name = "X"]
        teacher_feature_weight: f64 = 1.0;
        /// Weight of the teacher's patch tokens in the loss; 0 disables [default: 1]
        [value_name = "X"]
        teacher_patch_weight: f64 = 1.0;
    }

    "SIGReg and VISReg" of [Dino, LeJepa] {
        /// Weight of SIGReg, 0–1: in LeJEPA's loss, or on the features of DINO's student
        /// [default: 0.05; DINO: 0]
        [value_name = "X"]
        sigreg_weight: f64 = 0.05;
    }

    "SIGReg and VISReg" of [VisReg] {
        /// Weight of VISReg's regulariser in the loss, 0–1 [default: 0.6]
        [value_name = "X"]
        visreg_weight: f64 = 0.6;
    }

    "SIGReg and VISReg" of [Dino, LeJepa, VisReg] {
        /// Number of random projections per step [default: 256]
        #[serde(alias = "sigreg-directions")]
        [value_name = "N", alias = "sigreg-directions"]
        directions: usize = 256;
    }

    "LeJEPA and VISReg" of [LeJepa, VisReg] {
        /// Width of the embeddings [default: 64]
        [value_name = "N"]
        proj_dim: usize = 64;
    }

    "Averaged backbone" {
        /// Momentum of the averaged backbone, which is evaluated [default: 0.98]
        [value_name = "X"]
        average_momentum: f64 = 0.98;
        /// Momentum of the averaged backbone at the end [default: --average-momentum]
        [value_name = "X"]
        average_momentum_end: f64;
    }

    "Optimisation" {
        /// adamw, sgd, lars or muon [default: adamw]
        [value_name = "NAME", value_parser = crate::values::optimizer]
        optimizer: OptimiserKind = OptimiserKind::AdamW;
        /// Length of the run and its schedules in epochs; may be fractional
        /// [default: 100; small: 400,000 images seen, 200,000 with convolutions]
        [value_name = "X"]
        epochs: f64 = 100.0;
        /// Images per step, or per micro-batch with --accumulate, of all processes together [default: 64]
        [value_name = "N", alias = "batch-size-per-gpu"]
        batch_size: usize = 64;
        /// Accumulate gradients over N micro-batches per step [default: 1]
        [value_name = "N"]
        accumulate: usize = 1;
        /// Make results bitwise identical for any number of processes that divides N (a power of two);
        /// 0 disables [default: 0]
        [value_name = "N"]
        reproducible_ranks: usize = 0;
        /// Learning rate for a batch of 256, scaled with the batch size [default: 0.0005]
        [value_name = "X"]
        lr: f64 = 0.0005;
        /// Learning rate at the end [default: 1e-6]
        [value_name = "X"]
        min_lr: f64 = 1e-6;
        /// Learning-rate warm-up in epochs [default: 10, or a tenth of a shorter run]
        [value_name = "X"]
        warmup_epochs: f64;
        /// Weight decay at the start [default: 0.04; LeJEPA, VISReg: 0.05]
        [value_name = "X"]
        weight_decay: f64 = 0.04;
        /// Weight decay at the end [default: 0.4; LeJEPA, VISReg: 0.05]
        [value_name = "X"]
        weight_decay_end: f64 = 0.4;
        /// Clip each parameter's gradient to this norm; 0 disables [default: 3]
        [value_name = "X"]
        clip_grad: f64 = 3.0;
    }

    "Adapting weights" {
        /// Multiply the learning rate by X once for each layer between a parameter and the head; 1 disables
        /// [default: 1]
        [value_name = "X"]
        layer_decay: f64 = 1.0;
        /// Multiply the learning rate of the patch embedding by X [default: 1]
        [value_name = "X"]
        patch_embed_lr_scale: f64 = 1.0;
        /// Train the head alone for N epochs before the backbone; may be fractional [default: 0]
        [value_name = "N"]
        freeze_backbone_epochs: f64 = 0.0;
    }

    "Adapting weights" {
        /// Weight of the loss that holds features near those of --weights; 0 disables [default: 0]
        [value_name = "X"]
        preserve: f64 = 0.0;
        /// Learn only a change of rank N of queries, values and MLP weights, besides the head; 0 learns all
        /// weights [default: 0]
        [value_name = "N"]
        lora_rank: usize = 0;
        /// Multiply the change by X / --lora-rank [default: --lora-rank]
        [value_name = "X"]
        lora_alpha: f64;
    }

    "Augmentation" {
        /// Side of the global crops, or HEIGHTxWIDTH [default: 224]
        [value_name = "PX"]
        global_crops_size: Size = Size::square(224);
        /// Fraction of the image area that global crops cover, as MIN,MAX [default: 0.4,1]
        [value_name = "MIN,MAX"]
        global_crops_scale: Pair = Pair(0.4, 1.0);
        /// Number of local crops [default: 8]
        [value_name = "N"]
        local_crops_number: usize = 8;
        /// Side of the local crops, or HEIGHTxWIDTH [default: 96]
        [value_name = "PX"]
        local_crops_size: Size = Size::square(96);
        /// Use crops of half the size for the first N epochs, which take less than half the time [default: 0]
        [value_name = "N"]
        low_resolution_epochs: u64 = 0;
        /// Fraction of the image area that local crops cover, as MIN,MAX [default: 0.05,0.4]
        [value_name = "MIN,MAX"]
        local_crops_scale: Pair = Pair(0.05, 0.4);
        /// Probability that a crop is flipped [default: 0.5]
        [value_name = "X"]
        flip_probability: f64 = 0.5;
        /// Probability that a crop's colours are changed [default: 0.8]
        [value_name = "X"]
        jitter_probability: f64 = 0.8;
        /// Multiply brightness by 1 − X to 1 + X [default: 0.4]
        [value_name = "X"]
        brightness: f64 = 0.4;
        /// Multiply contrast by 1 − X to 1 + X [default: 0.4]
        [value_name = "X"]
        contrast: f64 = 0.4;
        /// Multiply saturation by 1 − X to 1 + X [default: 0.2]
        [value_name = "X"]
        saturation: f64 = 0.2;
        /// Turn the hue by up to this fraction of the colour circle [default: 0.1]
        [value_name = "X"]
        hue: f64 = 0.1;
        /// Probability that a crop becomes grey [default: 0.2]
        [value_name = "X"]
        greyscale_probability: f64 = 0.2;
        /// Probability that a crop is blurred: the first global one, the second, local ones
        /// [default: 1,0.1,0.5]
        [value_name = "X,X,X"]
        blur_probability: PerView = PerView(1.0, 0.1, 0.5);
        /// Standard deviation of the blur in pixels, as MIN,MAX [default: 0.1,2]
        [value_name = "MIN,MAX"]
        blur_radius: Pair = Pair(0.1, 2.0);
        /// Side of the crops that --blur-radius is meant for: others are blurred in proportion; 0: all alike
        /// [default: 0]
        [value_name = "PX"]
        blur_crop_size: usize = 0;
        /// Probability that a crop is solarised: the first global one, the second, local ones
        /// [default: 0,0.2,0]
        [value_name = "X,X,X"]
        solarise_probability: PerView = PerView(0.0, 0.2, 0.0);
    }

    "Data" {
        /// Training images, as given by the positional argument; empty for the built-in shapes set
        [hide = true]
        images: PathBuf = PathBuf::new();
        /// Number of channels, 1–16; unless 3, images are read as stored (own channels and bit depth)
        /// [default: 3]
        [value_name = "N", alias = "channels"]
        in_chans: usize = 3;
        /// How to read pixels [default: rgb for 3 channels, else stored]
        [value_enum]
        pixels: PixelKind;
        /// Channel means of values in 0–1, as A,B,C [default: ImageNet's; measured for stored pixels]
        [value_name = "X,…"]
        mean: Numbers;
        /// Channel standard deviations of values in 0–1 [default: ImageNet's; measured for stored pixels]
        [value_name = "X,…"]
        std: Numbers;
        /// Number of threads that read and crop images [default: all cores]
        [value_name = "N"]
        num_workers: usize;
        /// Number of files to read ahead; raise for slow storage [default: 16]
        [value_name = "N"]
        read_ahead: usize = dinolab_data::loader::READ_AHEAD;
        /// Memory for decoded images, in MiB [default: 1024]
        [value_name = "N"]
        cache_mb: u64 = 1024;
        /// Read shards (tar files, Parquet row groups) sequentially and shuffle within a buffer of N images;
        /// 0 shuffles the whole dataset [default: 0]
        [value_name = "N"]
        shuffle_buffer: usize = 0;
        /// Decode JPEGs of 12 megapixels and more at half or a quarter of their size, if crops lose no
        /// resolution [default: true]
        [value_name = "BOOL"]
        scaled_decoding: bool;
        /// Abort when more than this percentage of images is unusable [default: 1]
        #[serde(alias = "max-bad-images")]
        [value_name = "X", alias = "max-bad-images"]
        max_unusable_percent: f64 = 1.0;
        /// Refuse images with more pixels than this [default: 178956970]
        [value_name = "N"]
        max_pixels: u64 = 178_956_970;
        /// Number of images of the built-in shapes set [default: 4096]
        [value_name = "N"]
        shapes_images: usize = 4096;
        /// Side of the images of the built-in shapes set, in pixels [default: 64]
        [value_name = "PX"]
        shapes_size: usize = 64;
    }

    "Evaluation" {
        /// Labelled validation images for k-NN [default: held out of the training images]
        [value_name = "PATH"]
        val: PathBuf = PathBuf::new();
        /// Fraction of labelled training images to hold out without --val [default: 0.1]
        [value_name = "X"]
        holdout: f64 = 0.1;
        /// Evaluate every N epochs; 0 disables [default: a tenth of the run]
        [value_name = "N"]
        eval_every: u64;
        /// Resize the shorter side to this for evaluation, or to cover HEIGHTxWIDTH [default: 256/224 of
        /// the crop; small with LeJEPA or VISReg: the crop]
        [value_name = "PX"]
        eval_resize: Size;
        /// Centre-crop to this for evaluation [default: the global crops' size; small with LeJEPA or
        /// VISReg: 4/3 of it]
        [value_name = "PX"]
        eval_crop: Size;
        /// Number of neighbours that vote in k-NN [default: 20]
        [value_name = "N"]
        knn_k: usize = 20;
        /// Temperature of the k-NN votes [default: 0.07]
        [value_name = "X"]
        knn_temp: f64 = 0.07;
        /// Side of the images in attention pictures [default: 480, or twice the crop if that is less]
        #[serde(alias = "attend-size")]
        [value_name = "PX", alias = "attend-size"]
        attention_size: Size;
        /// Number of images in each attention picture [default: 6]
        #[serde(alias = "attend-images")]
        [value_name = "N", alias = "attend-images"]
        attention_images: usize = 6;
    }

    "Run" {
        /// Random seed [default: 0]
        [value_name = "N"]
        seed: u64 = 0;
        /// Stop after N epochs, schedules unchanged; 0 trains the whole run [default: 0]
        [value_name = "X"]
        stop_after_epochs: f64 = 0.0;
        /// Write a checkpoint every N epochs [default: 1]
        [value_name = "N"]
        checkpoint_every: u64 = 1;
        /// Write a checkpoint every N steps as well; 0 disables [default: 500]
        [value_name = "N"]
        checkpoint_every_steps: u64 = 500;
        /// Keep a permanent checkpoint every N epochs; 0 disables [default: 20]
        [value_name = "N"]
        saveckp_freq: u64 = 20;
        /// Write metrics every N steps [default: 10]
        [value_name = "N"]
        log_every: u64 = 10;
        /// Write metrics, pictures and features for TensorBoard into RUN/tensorboard as well [default: false]
        [value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true"]
        tensorboard: bool = false;
    }
}
