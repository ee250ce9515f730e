//! Renames the tensors of other libraries to the reference's names.
//!
//! Register tokens and layer scale, which the reference does not have, are named as in DINOv2:
//! `register_tokens`, `blocks.N.ls1.gamma`. The two maps of a gated MLP are `mlp.fc1`, gates first, and
//! `mlp.fc2`. A network without position embeddings has rotary ones.

use std::collections::BTreeMap;
use std::path::Path;

use super::hugging_face;
use super::joined::Joined;
use super::scheme::Naming;
use super::{Array, bad, convnext, resnet, timm};
use crate::Result;

type Arrays = BTreeMap<String, Array>;
/// Whether arrays are those of a convolutional network of some family.
type Is = fn(&Arrays) -> bool;
/// Refuses what is not computed of them.
type Check = fn(&Path, &Arrays) -> Result<()>;

/// Returns all arrays under the reference's full names (`backbone.…`, `head.…`), and the scheme that
/// they had. `exported`: the file is of a kind that the reference does not write.
///
/// # Errors
/// [`crate::Error::BadWeights`] if the tensors are those of a network that is computed in another way.
pub(super) fn canonical(path: &Path, raw: Arrays, exported: bool) -> Result<(Arrays, Naming)> {
    let raw = convnext::renamed(hugging_face::resnet::renamed(raw));
    let families: [(Is, Check); 2] = [(resnet::is, resnet::check), (convnext::is, convnext::check)];
    if let Some((_, check)) = families.into_iter().find(|(is, _)| is(&raw)) {
        let renamed = raw.into_iter().map(|(k, v)| (full_name(&k), v));
        let arrays = renamed.collect();
        check(path, &arrays)?;
        return Ok((arrays, Naming::Reference));
    }
    let names: Vec<String> = raw.keys().cloned().collect();
    let lone = !raw.keys().any(|name| name.starts_with("backbone."));
    let (mut arrays, naming) = match hugging_face::prefix(&raw) {
        Some(prefix) => hugging_face::canonical(path, raw, &prefix)?,
        None => {
            let timm = raw.keys().any(|name| is_timm(name))
                || lone && exported
                || raw.contains_key("blocks.0.ls1.gamma") && !raw.contains_key("mask_token");
            let naming = if timm {
                Naming::Timm
            } else {
                Naming::Reference
            };
            (full_names(path, raw)?, naming)
        }
    };
    if !arrays.contains_key("backbone.cls_token") {
        let some: Vec<_> = names.iter().take(3).map(String::as_str).collect();
        return Err(bad(
            path,
            format!(
                "holds no vision transformer with a class token: no cls_token among its {} \
                 tensors ({}, …)",
                names.len(),
                some.join(", ")
            ),
        ));
    }
    let empty =
        |(name, array): &(&String, &Array)| name.starts_with("backbone.") && array.data.is_empty();
    if let Some((name, array)) = arrays.iter().find(empty) {
        return Err(bad(
            path,
            format!("tensor {name} of shape {:?} is empty", array.shape),
        ));
    }
    check_supported(path, &arrays)?;
    positions(path, &mut arrays)?;
    query_key_value_biases(&mut arrays);
    if !arrays.contains_key("backbone.pos_embed") {
        key_biases(path, &mut arrays)?;
    }
    Ok((arrays, naming))
}

/// Whether a lone backbone's tensor is named as in timm alone.
fn is_timm(name: &str) -> bool {
    let name = name.strip_prefix("backbone.").unwrap_or(name);
    name == "reg_token" || name.ends_with(".gamma_1") || name.ends_with(".attn.q_bias")
}

/// The arrays under the reference's full names.
///
/// # Errors
/// [`crate::Error::BadWeights`] if a joint map is not all there.
fn full_names(path: &Path, raw: Arrays) -> Result<Arrays> {
    let mut arrays = Arrays::new();
    let mut parts = Joined::default();
    let full = raw.into_iter().map(|(k, v)| (full_name(&k), v));
    for (name, array) in timm::stem_renamed(full.collect()) {
        match part_of(&name) {
            Some((whole, part, of)) => parts.add(whole, part, of, array),
            None => {
                arrays.insert(name, array);
            }
        }
    }
    arrays.extend(parts.finish(path, true)?);
    Ok(arrays)
}

/// The joint map that a tensor is a part of, and its number among so many.
fn part_of(name: &str) -> Option<(String, usize, usize)> {
    let (before, last) = name.rsplit_once('.')?;
    let bias = |block: &str, part| Some((format!("{block}.qkv.bias"), part, 3));
    match last {
        "q_bias" => return bias(before, 0),
        "v_bias" => return bias(before, 2),
        _ => {}
    }
    let (mlp, part) = before.rsplit_once('.')?;
    let part = match part {
        "w1" | "fc1_g" => 0,
        "w2" | "fc1_x" => 1,
        _ => return None,
    };
    let joint = mlp.ends_with(".mlp").then(|| format!("{mlp}.fc1.{last}"))?;
    Some((joint, part, 2))
}

/// Returns the reference's full name, adding `backbone.` to the names of a lone backbone.
fn full_name(name: &str) -> String {
    match name.split_once('.') {
        Some(("backbone", rest)) => format!("backbone.{}", part(rest)),
        Some((head @ ("head" | "ibot_head"), rest)) => {
            // Newer PyTorch keeps weight norm as a parametrisation.
            let rest = rest
                .replace("parametrizations.weight.original0", "weight_g")
                .replace("parametrizations.weight.original1", "weight_v");
            format!("{head}.{rest}")
        }
        _ => format!("backbone.{}", part(name)),
    }
}

/// Renames a part of a backbone: registers, layer scale and gated MLPs of timm, DINOv2 and DINOv3, and
/// DINOv2's chunked blocks.
fn part(name: &str) -> String {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match name.split('.').collect::<Vec<_>>()[..] {
        ["reg_token" | "storage_tokens"] => "register_tokens".into(),
        ["blocks", i, "gamma_1"] => format!("blocks.{i}.ls1.gamma"),
        ["blocks", i, "gamma_2"] => format!("blocks.{i}.ls2.gamma"),
        ["blocks", i, "mlp", "w12", last] => format!("blocks.{i}.mlp.fc1.{last}"),
        ["blocks", i, "mlp", "w3", last] => format!("blocks.{i}.mlp.fc2.{last}"),
        // Numbered through all chunks.
        ["blocks", chunk, block, ref rest @ ..] if number(chunk) && number(block) => {
            part(&format!("blocks.{block}.{}", rest.join(".")))
        }
        _ => name.into(),
    }
}

/// Refuses networks with unknown tensors, without which they would be computed wrongly.
fn check_supported(path: &Path, arrays: &Arrays) -> Result<()> {
    let unknown = |name: &&String| {
        let Some(name) = name.strip_prefix("backbone.") else {
            return false;
        };
        match name.split('.').collect::<Vec<_>>()[..] {
            ["blocks", _, ref rest @ ..] => !matches!(
                rest,
                ["norm1" | "norm2", "weight" | "bias"]
                    | ["attn", "qkv" | "proj", "weight" | "bias"]
                    | ["attn", "qkv", "bias_mask"]
                    | ["mlp", "fc1" | "fc2", "weight" | "bias"]
                    | ["ls1" | "ls2", "gamma"]
            ),
            ["patch_embed", ref rest @ ..] => !matches!(
                rest,
                ["proj", "weight" | "bias"]
                    | ["stem", _, "conv", "weight"]
                    | ["stem", _, "norm", "weight" | "bias"]
            ),
            ["rope_embed", "periods"] => false,
            [first, ..] => matches!(
                first,
                "dist_token"
                    | "norm_pre"
                    | "fc_norm"
                    | "rope"
                    | "rope_embed"
                    | "embeddings"
                    | "encoder"
            ),
            [] => false,
        }
    };
    let unknown: Vec<_> = arrays.keys().filter(unknown).collect();
    let Some(first) = unknown.first() else {
        return Ok(());
    };
    Err(bad(
        path,
        format!(
            "has parts that dinolab does not compute: {} tensors, the first is {}",
            unknown.len(),
            first.trim_start_matches("backbone.")
        ),
    ))
}

/// Brings position embeddings to one for the class token and one for each patch. Those of register
/// tokens are added to the tokens; a class token without one gets zeros.
fn positions(path: &Path, arrays: &mut Arrays) -> Result<()> {
    let registers = match arrays.get("backbone.register_tokens") {
        Some(array) => match array.shape[..] {
            [1, registers, _] => registers,
            _ => {
                return Err(bad(
                    path,
                    format!("register tokens of shape {:?}", array.shape),
                ));
            }
        },
        None => 0,
    };
    let Some(embeddings) = arrays.get("backbone.pos_embed") else {
        return Ok(());
    };
    let &[1, tokens, width] = embeddings.shape.as_slice() else {
        return Err(bad(
            path,
            format!("position embeddings of shape {:?}", embeddings.shape),
        ));
    };
    let square = |n: usize| n > 0 && n.isqrt().pow(2) == n;
    let data = &embeddings.data;
    let fixed = match tokens {
        n if square(n - n.min(1)) => return Ok(()),
        n if square(n) => [&vec![0.0; width], data.as_slice()].concat(),
        n if registers > 0 && n > 1 + registers && square(n - 1 - registers) => {
            let (prefix, grid) = data.split_at((1 + registers) * width);
            let fixed = [&prefix[..width], grid].concat();
            let places = prefix[width..].to_vec();
            let tokens = arrays.get_mut("backbone.register_tokens").expect("counted");
            if tokens.data.len() != places.len() {
                return Err(bad(
                    path,
                    format!("register tokens of shape {:?}", tokens.shape),
                ));
            }
            for (value, place) in tokens.data.iter_mut().zip(places) {
                *value += place;
            }
            fixed
        }
        n => {
            return Err(bad(
                path,
                format!("{n} position embeddings are not a square of patches and a class token"),
            ));
        }
    };
    let embeddings = Array {
        shape: vec![1, fixed.len() / width.max(1), width],
        data: fixed,
    };
    arrays.insert("backbone.pos_embed".into(), embeddings);
    Ok(())
}

/// Adds biases of 0 to linear layers without biases.
fn query_key_value_biases(arrays: &mut Arrays) {
    let missing: Vec<_> = arrays
        .iter()
        .filter_map(|(name, array)| {
            let block = name.strip_suffix(".attn.qkv.weight")?;
            let bias = format!("{block}.attn.qkv.bias");
            (!arrays.contains_key(&bias)).then(|| (bias, *array.shape.first().unwrap_or(&0)))
        })
        .collect();
    for (name, len) in missing {
        // No more than the weights themselves have, whatever their shape says.
        let weights = &arrays[&name.replace(".bias", ".weight")];
        if len <= weights.data.len() {
            let bias = Array {
                shape: vec![len],
                data: vec![0.0; len],
            };
            arrays.insert(name, bias);
        }
    }
}

/// Applies DINOv3's masks of biases and checks that keys have none, since rotated keys differ by it.
fn key_biases(path: &Path, arrays: &mut Arrays) -> Result<()> {
    let masks = arrays
        .keys()
        .filter(|name| name.ends_with(".attn.qkv.bias_mask"));
    let masks: Vec<String> = masks.cloned().collect();
    for name in masks {
        let mask = arrays.remove(&name).expect("listed");
        let bias = name.trim_end_matches("_mask");
        if let Some(bias) = arrays
            .get_mut(bias)
            .filter(|bias| bias.data.len() == mask.data.len())
        {
            let values = bias.data.iter_mut().zip(&mask.data);
            values.for_each(|(value, mask)| *value *= mask);
        }
    }
    for (name, bias) in arrays
        .iter()
        .filter(|(name, _)| name.ends_with(".attn.qkv.bias"))
    {
        let third = bias.data.len() / 3;
        if bias.data[third..2 * third]
            .iter()
            .any(|&value| value != 0.0)
        {
            let reason = format!("keys with rotary positions have a bias in {name}");
            return Err(bad(
                path,
                format!("{reason}, which dinolab does not compute"),
            ));
        }
    }
    Ok(())
}
