//! A run's settings: from what is given over a file over defaults, to a complete configuration.

use std::path::PathBuf;

use dinolab_data::Size;
use dinolab_nn::Precision;
use dinolab_train::OptimiserKind;
use serde::{Deserialize, Serialize};

use crate::values::{MethodKind, Numbers, Pair, PixelKind};

mod change;
mod method;
mod plan;
mod resolve;
mod validate;

pub use change::{Meaning, meaning};
pub use resolve::Choice;

/// Declares every setting once: `name: type` (decided by [`Settings::resolve`]) or
/// `name: type = default`. Makes [`Settings`], all optional, which flags and files fill; and
/// [`Config`], all present, which a run follows and records.
macro_rules! settings {
    ($( $(#[$meta:meta])* $([$($arg:tt)*])? $name:ident: $type:ty $(= $default:expr)?; )*) => {
        /// Settings as given: by flags, by a file, or not at all.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[cfg_attr(feature = "clap", derive(clap::Args))]
        #[serde(rename_all = "kebab-case", deny_unknown_fields)]
        pub struct Settings {
            $( $(#[$meta])* #[cfg_attr(feature = "clap", arg(long $(, $($arg)*)?))] #[serde(skip_serializing_if = "Option::is_none")]
               pub $name: Option<$type>, )*
        }

        /// A complete configuration: what `config.toml` of a run folder holds.
        ///
        /// One that was written before a setting existed is read with that setting's default.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case", try_from = "Settings", into = "Settings")]
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

            /// These settings, without those that `keep` is false of.
            fn keep(self, keep: impl Fn(&str) -> bool) -> Self {
                Self { $( $name: self.$name.filter(|_| keep(stringify!($name))), )* }
            }

            /// The names of the settings that are given.
            pub fn given(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if self.$name.is_some() { names.push(stringify!($name)); } )*
                names
            }

            /// Errs with the name of a setting that is open.
            fn complete(self) -> Result<Config, &'static str> {
                Ok(Config { $( $name: self.$name.ok_or(stringify!($name))?, )* })
            }
        }

        impl From<Config> for Settings {
            /// Without the settings of other methods.
            fn from(config: Config) -> Self {
                let method = config.method;
                let all = Self { $( $name: Some(config.$name), )* };
                all.keep(|name| method::owner(name).is_none_or(|owner| owner == method))
            }
        }

        impl Config {
            /// The names of settings that differ from `other`'s.
            pub fn differences(&self, other: &Self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $( if self.$name != other.$name { names.push(stringify!($name)); } )*
                // What the method does not have makes no difference.
                let owned = |owner| owner == self.method || owner == other.method;
                names.retain(|name| method::owner(name).is_none_or(owned));
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

    /// Method: dino or lejepa [default: dino; lejepa for the built-in shapes]
    [value_enum]
    method: MethodKind;
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
    /// Stochastic depth of the network that learns [default: 0.1]
    drop_path_rate: f64 = 0.1;

    /// LeJEPA: width of the embeddings [default: 64]
    proj_dim: usize = 64;
    /// LeJEPA: weight of SIGReg in the loss, between 0 and 1 [default: 0.05]
    sigreg_weight: f64 = 0.05;
    /// LeJEPA: random directions per step [default: 256]
    sigreg_directions: usize = 256;
    /// LeJEPA: momentum of the averaged backbone, which is evaluated [default: 0.98]
    average_momentum: f64 = 0.98;
    /// LeJEPA: momentum of the averaged backbone at the end [default: the same]
    average_momentum_end: f64;

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
    /// Read shards (tar files, Parquet's row groups) one after the other, shuffled among so many
    /// images at a time; 0 for any order at all [default: 0]
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
