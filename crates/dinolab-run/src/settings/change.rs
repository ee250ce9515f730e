//! Which settings may change when a run is resumed.

use super::Config;

/// What another value of a setting means for a run that is resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Nothing: results do not depend on it.
    Free,
    /// Where something lies, which is compared by its content.
    Place,
    /// The run can be resumed with it, if that is asked for.
    Changeable,
    /// The run cannot be resumed with it; why.
    Fixed(&'static str),
}

/// The meaning of a setting, by its name in [`Config`].
pub fn meaning(name: &str) -> Meaning {
    match name {
        "num_workers"
        | "read_ahead"
        | "cache_mb"
        | "device"
        | "stop_after_epochs"
        | "checkpoint_every"
        | "checkpoint_every_steps"
        | "saveckp_freq"
        | "tensorboard"
        | "max_unusable_percent" => Meaning::Free,
        "images" | "val" | "weights" | "teacher_weights" => Meaning::Place,
        "lr"
        | "min_lr"
        | "warmup_epochs"
        | "epochs"
        | "weight_decay"
        | "weight_decay_end"
        | "clip_grad"
        | "layer_decay"
        | "freeze_backbone_epochs"
        | "patch_embed_lr_scale"
        | "freeze_last_layer"
        | "drop_path_rate"
        | "patch_drop_rate"
        | "momentum_teacher"
        | "momentum_teacher_end"
        | "teacher_temp"
        | "warmup_teacher_temp"
        | "warmup_teacher_temp_epochs"
        | "student_temp"
        | "center_momentum"
        | "koleo_weight"
        | "mask_ratio"
        | "mask_sample_probability"
        | "sigreg_weight"
        | "visreg_weight"
        | "coding_rate_weight"
        | "coding_rate_epsilon"
        | "directions"
        | "teacher_feature_weight"
        | "average_momentum"
        | "average_momentum_end"
        | "precision"
        | "eval_every"
        | "eval_resize"
        | "eval_crop"
        | "knn_k"
        | "knn_temp"
        | "attention_size"
        | "attention_images"
        | "log_every"
        | "reproducible_ranks" => Meaning::Changeable,
        "batch_size" | "accumulate" => {
            Meaning::Fixed("a run's place in its epochs is counted in steps of this size")
        }
        "recipe" => Meaning::Fixed("what settings leave open was taken from it"),
        "time" => Meaning::Fixed("network and epochs were chosen by it"),
        "optimizer" => Meaning::Fixed("its moments are those of another optimiser"),
        "preserve" => Meaning::Fixed("its checkpoints hold the network it started from, or none"),
        "lora_rank" | "lora_alpha" => Meaning::Fixed("other parameters are learned with it"),
        "evaluated" => Meaning::Fixed("its checkpoints hold an average, or none"),
        "centering" => Meaning::Fixed("its teacher has a centre, or none"),
        "ibot_weight" => Meaning::Fixed("its network predicts masked patches, or does not"),
        "teacher_patch_weight" => Meaning::Fixed("its network predicts patch tokens, or does not"),
        "teacher_size" => Meaning::Fixed("the teacher would say something else of the same images"),
        "method" => Meaning::Fixed("its networks and losses are those of another method"),
        "feature" => Meaning::Fixed("the head is trained on it"),
        "seed" => Meaning::Fixed("all random draws follow from it"),
        "arch"
        | "patch_size"
        | "width"
        | "depth"
        | "heads"
        | "image_size"
        | "out_dim"
        | "ibot_head"
        | "ibot_out_dim"
        | "norm_last_layer"
        | "use_bn_in_head"
        | "head_hidden_dim"
        | "head_bottleneck_dim"
        | "head_layers"
        | "proj_dim"
        | "in_chans" => Meaning::Fixed("it makes another network"),
        "resize_pos_embed" => Meaning::Fixed("it is about the weights that a run starts from"),
        "shuffle_buffer" | "holdout" | "shapes_images" | "shapes_size" => {
            Meaning::Fixed("it makes another set of images, or another order of them")
        }
        _ => Meaning::Fixed("it makes other images of the same files"),
    }
}

impl Config {
    /// A setting's value as its key or flag takes it; empty where there is no such setting.
    pub fn value(&self, name: &str) -> String {
        let table = toml::Table::try_from(self).unwrap_or_default();
        let value = table.get(&name.replace('_', "-"));
        value.map(plain).unwrap_or_default()
    }
}

fn plain(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(","),
        toml::Value::Float(number) => crate::values::plain_number(*number),
        other => other.to_string(),
    }
}
