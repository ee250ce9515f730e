//! Hugging Face's `DINOv3ViTModel`: its names and its entries of `config.json`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Place;
use crate::VitConfig;
use crate::weights::{Array, joined};

/// The end of a name that every such network has.
pub(in crate::weights) const MARK: &str = "embeddings.patch_embeddings.weight";

/// A tensor's place in the reference's network.
pub(super) fn place(name: &str) -> Option<Place> {
    let whole = |name: String| Some(Place::Whole(name));
    // The transformer is a module of its own in some versions.
    let name = name.strip_prefix("model.").unwrap_or(name);
    let Some(rest) = name.strip_prefix("layer.") else {
        return whole(match name.split_once('.')? {
            ("embeddings", rest @ ("cls_token" | "mask_token" | "register_tokens")) => rest.into(),
            ("embeddings", rest) => rest.replace("patch_embeddings", "patch_embed.proj"),
            ("norm", _) => name.into(),
            _ => return None,
        });
    };
    let (block, rest) = rest.split_once('.')?;
    let part = |whole: &str, last: &str, part, of| {
        let name = format!("blocks.{block}.{whole}.{last}");
        Some(Place::Part { name, part, of })
    };
    let rest = match rest.split('.').collect::<Vec<_>>()[..] {
        ["attention", "q_proj", last] => return part("attn.qkv", last, 0, 3),
        ["attention", "k_proj", last] => return part("attn.qkv", last, 1, 3),
        ["attention", "v_proj", last] => return part("attn.qkv", last, 2, 3),
        ["mlp", "gate_proj", last] => return part("mlp.fc1", last, 0, 2),
        // Without gates it is alone; see `canonical`.
        ["mlp", "up_proj", last] => return part("mlp.fc1", last, 1, 2),
        ["mlp", "down_proj", last] => format!("mlp.fc2.{last}"),
        ["attention", "o_proj", last] => format!("attn.proj.{last}"),
        ["layer_scale1", "lambda1"] => "ls1.gamma".into(),
        ["layer_scale2", "lambda1"] => "ls2.gamma".into(),
        _ => rest.into(),
    };
    whole(format!("blocks.{block}.{rest}"))
}

/// A backbone's tensors, by the reference's names without `backbone.`, under Hugging Face's.
pub(super) fn named(
    backbone: &BTreeMap<String, Array>,
    config: &VitConfig,
) -> BTreeMap<String, Array> {
    let mut arrays = BTreeMap::new();
    let width = config.width;
    for (name, array) in backbone {
        let parts: Vec<_> = name.split('.').collect();
        let name = match parts[..] {
            ["cls_token" | "mask_token" | "register_tokens"] => format!("embeddings.{name}"),
            ["patch_embed", "proj", last] => format!("embeddings.patch_embeddings.{last}"),
            ["norm", _] => name.clone(),
            ["blocks", i, "attn", "qkv", last] => {
                let at = |which| format!("layer.{i}.attention.{which}_proj.{last}");
                let thirds = joined::split(array, ["q", "k", "v"].map(at));
                // Keys have no bias.
                let keep = |(name, _): &(String, Array)| last != "bias" || !name.contains("k_proj");
                arrays.extend(thirds.into_iter().filter(keep));
                continue;
            }
            ["blocks", i, "mlp", "fc1", last] if config.gated_mlp => {
                let at = |which| format!("layer.{i}.mlp.{which}_proj.{last}");
                arrays.extend(joined::split(array, ["gate", "up"].map(at)));
                continue;
            }
            ["blocks", i, ref rest @ ..] => {
                let rest = match rest {
                    ["attn", "proj", last] => format!("attention.o_proj.{last}"),
                    ["mlp", "fc1", last] => format!("mlp.up_proj.{last}"),
                    ["mlp", "fc2", last] => format!("mlp.down_proj.{last}"),
                    ["ls1", _] => "layer_scale1.lambda1".into(),
                    ["ls2", _] => "layer_scale2.lambda1".into(),
                    rest => rest.join("."),
                };
                format!("layer.{i}.{rest}")
            }
            _ => continue,
        };
        arrays.insert(name, array.clone());
    }
    for token in ["mask_token", "register_tokens"] {
        let absent = || Array {
            shape: vec![1, usize::from(token == "mask_token"), width],
            data: vec![0.0; if token == "mask_token" { width } else { 0 }],
        };
        let array = arrays
            .entry(format!("embeddings.{token}"))
            .or_insert_with(absent);
        array.shape = vec![1, array.data.len() / width, width];
    }
    arrays
}

/// The entries of `config.json` that other classes do not have.
pub(super) fn extend_config(all: &mut Map<String, Value>, config: &VitConfig) {
    let rope = config.rope.unwrap_or_default();
    let moved = |value: f64, none: f64| (value != none).then_some(value);
    for name in [
        "attention_probs_dropout_prob",
        "hidden_dropout_prob",
        "qkv_bias",
    ] {
        all.remove(name);
    }
    let own = json!({
        "attention_dropout": 0.0,
        "hidden_act": if config.gated_mlp { "silu" } else { "gelu" },
        "intermediate_size": config.mlp_hidden(),
        "key_bias": false,
        "mlp_bias": true,
        "num_register_tokens": config.registers,
        "pos_embed_jitter": moved(rope.jitter, 1.0),
        "pos_embed_rescale": moved(rope.rescale, 1.0),
        "pos_embed_shift": moved(rope.shift, 0.0),
        "proj_bias": true,
        "query_bias": true,
        "rope_theta": rope.theta,
        "use_gated_mlp": config.gated_mlp,
        "value_bias": true,
    });
    all.extend(own.as_object().expect("an object").clone());
}
