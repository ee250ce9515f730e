//! The names of DINOv2's and DINOv3's own files, for what the reference does not have.

use std::collections::BTreeMap;

use super::{Array, joined};
use crate::VitConfig;

type Arrays = BTreeMap<String, Array>;

/// A backbone's tensors, by the reference's names without `backbone.`, as DINOv2 names a gated MLP, and
/// DINOv3 all of a network with rotary positions.
pub(super) fn named(backbone: Arrays, config: &VitConfig) -> Arrays {
    let mut arrays = Arrays::new();
    for (name, array) in backbone {
        let parts: Vec<_> = name.split('.').collect();
        let (rotary, gated) = (config.rope.is_some(), config.gated_mlp);
        let name = match parts[..] {
            ["register_tokens"] if rotary => "storage_tokens".into(),
            ["blocks", i, "mlp", "fc1", last] if gated && rotary => {
                let names = ["w1", "w2"].map(|part| format!("blocks.{i}.mlp.{part}.{last}"));
                arrays.extend(joined::split(&array, names));
                continue;
            }
            ["blocks", i, "mlp", "fc1", last] if gated => format!("blocks.{i}.mlp.w12.{last}"),
            ["blocks", i, "mlp", "fc2", last] if gated => format!("blocks.{i}.mlp.w3.{last}"),
            ["blocks", _, "attn", "qkv", "bias"] if rotary => {
                let third = array.data.len() / 3;
                let of_keys = third..2 * third;
                let mask =
                    (0..array.data.len()).map(|i| if of_keys.contains(&i) { 0.0 } else { 1.0 });
                let mask = Array {
                    shape: array.shape.clone(),
                    data: mask.collect(),
                };
                arrays.insert(format!("{name}_mask"), mask);
                name
            }
            _ => name,
        };
        arrays.insert(name, array);
    }
    if let Some(rope) = &config.rope {
        let frequencies = rope.frequencies(config.head_width());
        let periods = Array {
            shape: vec![frequencies.len()],
            data: frequencies.iter().map(|f| (1.0 / f) as f32).collect(),
        };
        arrays.insert("rope_embed.periods".into(), periods);
    }
    arrays
}
