//! The nodes of a ConvNeXt.

use super::Options;
use super::graph::{Attribute, Graph, Value};
use super::layers::END;
use super::network::Outputs;
use crate::ConvNext;
use crate::convnext::{Block, Conv, ConvNextConfig};

/// The outputs of a ConvNeXt for `images`. Its patches are all positions of the last grid.
pub(super) fn outputs(
    g: &mut Graph,
    convnext: &ConvNext,
    images: &Value,
    options: &Options,
) -> Outputs {
    g.enter("stem");
    let images = at_least(g, images, ConvNextConfig::STRIDE);
    let mut x = g.transpose(&images, &[0, 2, 3, 1]);
    for (stage, (step, blocks)) in convnext.stages().enumerate() {
        let at = format!("downsample_layers.{stage}");
        g.enter(&at);
        // The stem is a convolution, then a norm; what precedes the other stages, the other way round.
        let (conv, norm) = match stage {
            0 => ("0", "1"),
            _ => ("1", "0"),
        };
        let (conv, norm) = (format!("{at}.{conv}"), format!("{at}.{norm}"));
        x = match stage {
            0 => {
                let x = patches(g, step.conv, &conv, &x);
                g.layer_norm(step.norm, &norm, &x)
            }
            _ => {
                let x = g.layer_norm(step.norm, &norm, &x);
                patches(g, step.conv, &conv, &x)
            }
        };
        for (number, inner) in blocks.iter().enumerate() {
            x = block(g, inner, &format!("stages.{stage}.{number}"), &x);
        }
    }
    g.enter("norm");
    let flat = g.ints(&[0, -1, convnext.config().features() as i64]);
    let patches = g.op("Reshape", [&x, &flat]);
    let mean = g.mean(&patches, &[1]);
    let (place, feature) = (g.ints(&[1]), options.feature);
    let mut tokens = g.op("Unsqueeze", [&mean, &place]);
    if options.patch_features || !feature.is_class() {
        tokens = g.concat([&tokens, &patches], 1);
    }
    let tokens = g.layer_norm(convnext.norm(), "norm", &tokens);
    Outputs {
        feature: g.feature(&tokens, 1, feature),
        patches: options
            .patch_features
            .then(|| g.slice_tokens(&tokens, 1, END)),
        attention: None,
    }
}

/// Zeros below and to the right of images with a side below `side`.
fn at_least(g: &mut Graph, images: &Value, side: usize) -> Value {
    let shape = g.op("Shape", [images]);
    let (two, end, axis) = (g.ints(&[2]), g.ints(&[END]), g.ints(&[0]));
    let size = g.op("Slice", [&shape, &two, &end, &axis]);
    let least = g.ints(&[side as i64; 2]);
    let missing = g.op("Sub", [&least, &size]);
    let none = g.ints(&[0; 2]);
    let missing = g.op("Max", [&missing, &none]);
    let before = g.ints(&[0; 6]);
    let pads = g.concat([&before, &missing], 0);
    g.op("Pad", [images, &pads])
}

/// `x` `[B, H, W, C]` → the same shape.
fn block(g: &mut Graph, block: &Block, at: &str, x: &Value) -> Value {
    g.enter(at);
    let (side, width) = (block.dwconv.weight.shape()[2], block.gamma.len());
    let attributes = [
        Attribute::Ints("kernel_shape", vec![side as i64; 2]),
        Attribute::Ints("pads", vec![(side / 2) as i64; 4]),
        Attribute::Int("group", width as i64),
    ];
    let y = conv(g, &block.dwconv, &format!("{at}.dwconv"), x, &attributes);
    let y = g.layer_norm(&block.norm, &format!("{at}.norm"), &y);
    let y = g.linear(&block.pwconv1, &format!("{at}.pwconv1"), &y);
    let y = g.gelu(&y);
    let y = g.linear(&block.pwconv2, &format!("{at}.pwconv2"), &y);
    let gamma = g.param(&format!("{at}.gamma"), &block.gamma);
    let y = g.op("Mul", [&y, &gamma]);
    g.op("Add", [x, &y])
}

/// A convolution of patches that do not overlap.
fn patches(g: &mut Graph, layer: &Conv, name: &str, x: &Value) -> Value {
    let side = vec![layer.weight.shape()[2] as i64; 2];
    let attributes = [
        Attribute::Ints("kernel_shape", side.clone()),
        Attribute::Ints("strides", side),
    ];
    conv(g, layer, name, x, &attributes)
}

/// A convolution of `[B, H, W, C]`.
fn conv(g: &mut Graph, conv: &Conv, name: &str, x: &Value, attributes: &[Attribute]) -> Value {
    let weight = g.param(&format!("{name}.weight"), &conv.weight);
    let bias = g.param(&format!("{name}.bias"), &conv.bias);
    let x = g.transpose(x, &[0, 3, 1, 2]);
    let y = g.node("Conv", [&x, &weight, &bias], attributes);
    g.transpose(&y, &[0, 2, 3, 1])
}
