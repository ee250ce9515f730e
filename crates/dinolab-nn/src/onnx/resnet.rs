//! The nodes of a residual network.

use super::Options;
use super::graph::{Attribute, Graph, Value};
use super::network::Outputs;
use crate::param::Parameters;
use crate::resnet::{EPS, Layer, STEM};
use crate::{Feature, ResNet};

/// The outputs of a residual network for `images`. Its patches are all positions of the last grid.
pub(super) fn outputs(
    g: &mut Graph,
    resnet: &ResNet,
    images: &Value,
    options: &Options,
) -> Outputs {
    g.enter("stem");
    let x = layer(g, &resnet.stem(), "", images);
    let x = g.op("Relu", [&x]);
    let x = g.node("MaxPool", [&x], &Graph::window(STEM[1]));
    let x = resnet.blocks().fold(x, |x, (at, block)| {
        g.enter(&at);
        let at = format!("{at}.");
        let branch = block.branch();
        let (last, before) = branch.split_last().expect("a block has convolutions");
        let y = before.iter().fold(x.clone(), |y, inner| {
            let y = layer(g, inner, &at, &y);
            g.op("Relu", [&y])
        });
        let y = layer(g, last, &at, &y);
        let x = match block.shortcut() {
            Some(shortcut) => layer(g, &shortcut, &at, &x),
            None => x,
        };
        let y = g.op("Add", [&y, &x]);
        g.op("Relu", [&y])
    });
    g.enter("features");
    let mean = g.mean(&x, &[2, 3]);
    Outputs {
        feature: match options.feature {
            Feature::Class | Feature::Patches => mean,
            Feature::Both => g.concat([&mean, &mean], 1),
        },
        patches: options.patch_features.then(|| {
            let flat = g.ints(&[0, 0, -1]);
            let x = g.op("Reshape", [&x, &flat]);
            g.transpose(&x, &[0, 2, 1])
        }),
        attention: None,
    }
}

/// A convolution, normalised by the running statistics.
fn layer(g: &mut Graph, layer: &Layer<'_>, at: &str, x: &Value) -> Value {
    let [conv, norm] = layer.names;
    let weight = g.param(&format!("{at}{conv}.weight"), &layer.conv.weight);
    let y = g.node("Conv", [x, &weight], &Graph::window(layer.kernel));
    let mut values = Vec::new();
    layer
        .norm
        .visit(&format!("{at}{norm}"), &mut |name, param| {
            values.push(g.param(name, param));
        });
    let [gamma, beta, mean, variance] = &values[..] else {
        unreachable!("batch normalisation has scale, shift, mean and variance")
    };
    let epsilon = Attribute::Float("epsilon", EPS as f32);
    let inputs = [&y, gamma, beta, mean, variance];
    g.node("BatchNormalization", inputs, &[epsilon])
}
