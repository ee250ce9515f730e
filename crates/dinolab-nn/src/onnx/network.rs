//! The graph of a backbone of any kind, and of a head on its features.

use super::graph::{Dim, Graph, Value};
use super::{ATTENTION, FEATURES, IMAGES, LOGITS, Options, PATCH_FEATURES};
use super::{convnext, resnet, transformer};
use crate::{AnyBackbone, Backbone, Feature, Head};

/// What a backbone computes of images.
pub(super) struct Outputs {
    /// `[B, F]`.
    pub feature: Value,
    /// Patch tokens `[B, h·w, D]`, where asked for.
    pub patches: Option<Value>,
    /// Attention of the last block's class token `[B, H, h, w]`, where asked for.
    pub attention: Option<Value>,
}

/// The graph of a backbone, and of a head on its features.
pub(super) fn graph(network: &AnyBackbone, head: Option<&Head>, options: &Options) -> Graph {
    let words = Words::of(network);
    let mut g = Graph::new(words.name);
    let planes = [
        Dim::Name("batch"),
        Dim::Size(network.channels()),
        Dim::Name("height"),
        Dim::Name("width"),
    ];
    let images = g.input(IMAGES, &planes, words.images);
    let outputs = match network {
        AnyBackbone::Vit(vit) => transformer::outputs(&mut g, vit, &images, options),
        AnyBackbone::ResNet(resnet) => resnet::outputs(&mut g, resnet, &images, options),
        AnyBackbone::ConvNext(convnext) => convnext::outputs(&mut g, convnext, &images, options),
    };
    let width = network.width();
    let dims = [Dim::Name("batch"), Dim::Size(options.feature.width(width))];
    let about = words.feature(options.feature);
    g.output(FEATURES, outputs.feature.clone(), &dims, &about);
    if let Some(patches) = outputs.patches {
        let dims = [Dim::Name("batch"), Dim::Name("patches"), Dim::Size(width)];
        let about = format!("{}, row by row.", words.patches);
        g.output(PATCH_FEATURES, patches, &dims, &about);
    }
    if let (Some(maps), AnyBackbone::Vit(vit)) = (outputs.attention, network) {
        let dims = [
            Dim::Name("batch"),
            Dim::Size(vit.config().heads),
            Dim::Name("rows"),
            Dim::Name("columns"),
        ];
        let about = "Attention of the last block's class token to the patches, per head.";
        g.output(ATTENTION, maps, &dims, about);
    }
    if let Some(head) = head {
        let logits = g.head(head, &outputs.feature);
        let dims = [Dim::Name("batch"), Dim::Size(head.config().out_dim)];
        let about = "Similarities to the head's prototypes, not divided by a temperature.";
        g.output(LOGITS, logits, &dims, about);
    }
    g
}

/// What a file says of a kind of network.
struct Words {
    /// The graph's name.
    name: &'static str,
    images: &'static str,
    class: &'static str,
    patches: &'static str,
}

impl Words {
    fn of(network: &AnyBackbone) -> Self {
        match network {
            AnyBackbone::Vit(_) => Self {
                name: "vit",
                images: "Normalised images, red, green and blue planes. Pixels beyond whole patches \
                         are left out.",
                class: "Class token of the last block after the final norm",
                patches: "Patch tokens of the last block after the final norm",
            },
            AnyBackbone::ResNet(_) => Self {
                name: "resnet",
                images: "Normalised images, red, green and blue planes.",
                class: "Mean of the last grid",
                patches: "Positions of the last grid",
            },
            AnyBackbone::ConvNext(_) => Self {
                name: "convnext",
                images: "Normalised images, red, green and blue planes.",
                class: "Mean of the last grid after the final norm",
                patches: "Positions of the last grid after the final norm",
            },
        }
    }

    fn feature(&self, feature: Feature) -> String {
        let Self { class, patches, .. } = self;
        match feature {
            Feature::Class => format!("{class}."),
            Feature::Patches => format!("Mean: {patches}."),
            Feature::Both => format!("{class}, then the mean: {patches}."),
        }
    }
}
