//! The nodes of a backbone and of a head.

use super::graph::{Attribute, Dim, Graph, Value};
use super::positions::{self, Grid};
use super::rotary::{self, Rotary};
use super::{ATTENTION, FEATURES, IMAGES, LOGITS, Options, PATCH_FEATURES};
use crate::param::Param;
use crate::vit::{Block, LayerNorm, LayerScale, Linear};
use crate::{Feature, Head, Vit};

/// The end of an axis, whatever its length.
const END: i64 = i64::MAX;

/// The graph of a backbone, and of a head on its features.
pub(super) fn graph(vit: &Vit, head: Option<&Head>, options: &Options) -> Graph {
    let mut g = Graph::new("vit");
    let config = vit.config();
    let images = g.input(
        IMAGES,
        &[
            Dim::Name("batch"),
            Dim::Size(config.channels),
            Dim::Name("height"),
            Dim::Name("width"),
        ],
        "Normalised images, red, green and blue planes. Pixels beyond whole patches are left out.",
    );
    let mut emit = Emit {
        shared: Shared::new(&mut g, vit),
        g: &mut g,
        vit,
        rotary: None,
    };
    let (tokens, grid) = emit.embed(&images);
    let prefix = config.prefix();
    emit.rotary = config
        .rope
        .map(|rope| rotary::angles(emit.g, &rope, config.head_width(), prefix, &grid));
    let (last, before) = vit.blocks.split_last().expect("a network has blocks");
    let mut x = tokens;
    for (i, block) in before.iter().enumerate() {
        (x, _) = emit.block(i, block, &x, Queries::All);
    }
    let queries = match options.patch_features || !options.feature.is_class() {
        true => Queries::All,
        false => Queries::Class,
    };
    let (x, probabilities) = emit.block(before.len(), last, &x, queries);
    emit.g.enter("norm");
    let x = emit.layer_norm(&vit.norm, "norm", &x);
    let features = emit.feature(&x, queries, options.feature);
    let width = options.feature.width(config.width);
    let dims = [Dim::Name("batch"), Dim::Size(width)];
    let about = match options.feature {
        Feature::Class => "Class token of the last block after the final norm.",
        Feature::Patches => "Mean of the patch tokens of the last block after the final norm.",
        Feature::Both => {
            "Class token, then mean of the patch tokens, of the last block after the final norm."
        }
    };
    emit.g.output(FEATURES, features.clone(), &dims, about);
    if options.patch_features {
        let patches = emit.patch_tokens(&x);
        let dims = [
            Dim::Name("batch"),
            Dim::Name("patches"),
            Dim::Size(config.width),
        ];
        let about = "Patch tokens of the last block after the final norm, row by row.";
        emit.g.output(PATCH_FEATURES, patches, &dims, about);
    }
    if options.attention {
        let maps = emit.attention_maps(&probabilities, &grid);
        let dims = [
            Dim::Name("batch"),
            Dim::Size(config.heads),
            Dim::Name("rows"),
            Dim::Name("columns"),
        ];
        let about = "Attention of the last block's class token to the patches, per head.";
        emit.g.output(ATTENTION, maps, &dims, about);
    }
    if let Some(head) = head {
        let logits = emit.head(head, &features);
        let dims = [Dim::Name("batch"), Dim::Size(head.config().out_dim)];
        let about = "Similarities to the head's prototypes, not divided by a temperature.";
        emit.g.output(LOGITS, logits, &dims, about);
    }
    g
}

/// Which tokens a block has to compute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queries {
    All,
    /// The class token alone, where nothing else of the block is asked for.
    Class,
}

/// Constants that every block uses.
struct Shared {
    /// `[B, N, D]` as `[B, N, heads, D / heads]`.
    split_heads: Value,
    /// `[B, N, heads, D / heads]` as `[B, N, D]`.
    join_heads: Value,
    /// Widths of queries, keys and values.
    query_key_value: Value,
    /// Widths of queries, and of keys and values together.
    query_rest: Value,
    /// Widths of keys and values.
    key_value: Value,
    /// 1 / √(D / heads).
    scale: Value,
    /// For the error function.
    sqrt_2: Value,
    one: Value,
    half: Value,
    /// A list of 0 and one of 1.
    zeroth: Value,
    first: Value,
}

impl Shared {
    fn new(g: &mut Graph, vit: &Vit) -> Self {
        let config = vit.config();
        let (d, heads) = (config.width as i64, config.heads as i64);
        let per_head = config.width / config.heads;
        g.enter("shared");
        Self {
            split_heads: g.ints(&[0, 0, heads, per_head as i64]),
            join_heads: g.ints(&[0, 0, d]),
            query_key_value: g.ints(&[d, d, d]),
            query_rest: g.ints(&[d, 2 * d]),
            key_value: g.ints(&[d, d]),
            scale: g.float((1.0 / (per_head as f64).sqrt()) as f32),
            sqrt_2: g.float(std::f32::consts::SQRT_2),
            one: g.float(1.0),
            half: g.float(0.5),
            zeroth: g.ints(&[0]),
            first: g.ints(&[1]),
        }
    }
}

/// What is emitted, and from what.
struct Emit<'a> {
    g: &'a mut Graph,
    vit: &'a Vit,
    shared: Shared,
    /// Rotary positions of all tokens.
    rotary: Option<Rotary>,
}

impl Emit<'_> {
    /// Images as tokens `[B, N, D]` with their positions.
    fn embed(&mut self, images: &Value) -> (Value, Grid) {
        let config = self.vit.config();
        let (d, p) = (config.width, config.patch_size);
        self.g.enter("patch_embed");
        let proj = &self.vit.patch_embed.proj;
        let weight = self.parameter("patch_embed.proj.weight", &proj.weight);
        let bias = proj
            .bias
            .as_ref()
            .map_or_else(|| vec![0.0; d], Param::to_vec);
        let bias = self.g.parameter("patch_embed.proj.bias", &[d], &bias);
        let patch = vec![p as i64, p as i64];
        let patches = self.g.node(
            "Conv",
            [images, &weight, &bias],
            &[
                Attribute::Ints("kernel_shape", patch.clone()),
                Attribute::Ints("strides", patch),
            ],
        );
        let shape = self.g.op("Shape", [&patches]);
        let size = |g: &mut Graph, axis| {
            let axis = g.int(axis);
            g.op("Gather", [&shape, &axis])
        };
        let grid = Grid {
            h: size(self.g, 2),
            w: size(self.g, 3),
        };
        let batch = self.g.op("Gather", [&shape, &self.shared.zeroth]);
        let flat = self.g.ints(&[0, 0, -1]);
        let patches = self.g.op("Reshape", [&patches, &flat]);
        let patches = self.transpose(&patches, &[0, 2, 1]);

        let (mut prefix, patches) = match &self.vit.pos_embed {
            None => {
                self.g.enter("tokens");
                (self.parameter("cls_token", &self.vit.cls_token), patches)
            }
            Some(learned) => self.placed(learned, &patches, &grid),
        };
        if let Some(registers) = &self.vit.register_tokens {
            let registers = self.parameter("register_tokens", registers);
            prefix = self.concat([&prefix, &registers], 1);
        }
        let ones = self.g.ints(&[1, 1]);
        let shape = self.concat([&batch, &ones], 0);
        let prefix = self.g.op("Expand", [&prefix, &shape]);
        (self.concat([&prefix, &patches], 1), grid)
    }

    /// The class token and the patches' tokens with learned position embeddings.
    fn placed(&mut self, learned: &Param, patches: &Value, grid: &Grid) -> (Value, Value) {
        let config = self.vit.config();
        let (d, side) = (config.width, config.side());
        let positions = learned.to_vec();
        let (class, rest) = positions.split_at(d);
        let class = self.g.parameter("pos_embed.class", &[1, 1, d], class);
        let rest = self
            .g
            .parameter("pos_embed.patches", &[side, side * d], rest);
        let positions = positions::resampled(self.g, &rest, side, d, grid, config.position_rule);
        self.g.enter("tokens");
        let patches = self.g.op("Add", [patches, &positions]);
        let token = self.parameter("cls_token", &self.vit.cls_token);
        (self.g.op("Add", [&token, &class]), patches)
    }

    /// Tokens `[B, N, D]` after a block, and attention `[B, H, N, N]`; of the class token alone,
    /// `[B, 1, D]` and `[B, H, 1, N]`, where that is all that is asked for.
    fn block(&mut self, i: usize, block: &Block, x: &Value, queries: Queries) -> (Value, Value) {
        let at = |part: &str| format!("blocks.{i}.{part}");
        self.g.enter(&at("norm1"));
        let normal = self.layer_norm(&block.norm1, &at("norm1"), x);
        self.g.enter(&at("attn"));
        let [q, k, v] =
            self.queries_keys_values(&block.attn.qkv, &at("attn.qkv"), &normal, queries);
        let mut q = self.heads(&q, &[0, 2, 1, 3]);
        let k = match self.rotary.clone() {
            None => self.heads(&k, &[0, 2, 3, 1]),
            Some(rotary) => {
                // Class tokens have no place, so that their queries are not turned.
                if queries == Queries::All {
                    q = rotary.turn(self.g, &q);
                }
                let k = self.heads(&k, &[0, 2, 1, 3]);
                let k = rotary.turn(self.g, &k);
                self.transpose(&k, &[0, 1, 3, 2])
            }
        };
        let v = self.heads(&v, &[0, 2, 1, 3]);
        let q = self.g.op("Mul", [&q, &self.shared.scale]);
        let scores = self.g.op("MatMul", [&q, &k]);
        let last = Attribute::Int("axis", -1);
        let probabilities = self.g.node("Softmax", [&scores], &[last]);
        let mixed = self.g.op("MatMul", [&probabilities, &v]);
        let mixed = self.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.g.op("Reshape", [&mixed, &self.shared.join_heads]);
        let branch = self.linear(&block.attn.proj, &at("attn.proj"), &mixed);
        let branch = self.layer_scale(block.ls1.as_ref(), &at("ls1"), branch);
        let x = match queries {
            Queries::All => x.clone(),
            Queries::Class => self.slice_tokens(x, 0, 1),
        };
        let x = self.g.op("Add", [&x, &branch]);

        self.g.enter(&at("norm2"));
        let normal = self.layer_norm(&block.norm2, &at("norm2"), &x);
        self.g.enter(&at("mlp"));
        let hidden = self.linear(&block.mlp.fc1, &at("mlp.fc1"), &normal);
        let hidden = match block.mlp.is_gated() {
            true => self.swiglu(&hidden),
            false => self.gelu(&hidden),
        };
        let branch = self.linear(&block.mlp.fc2, &at("mlp.fc2"), &hidden);
        let branch = self.layer_scale(block.ls2.as_ref(), &at("ls2"), branch);
        (self.g.op("Add", [&x, &branch]), probabilities)
    }

    /// Queries, keys and values, `[B, N, D]` each, by one product where all tokens ask.
    fn queries_keys_values(
        &mut self,
        qkv: &Linear,
        name: &str,
        x: &Value,
        queries: Queries,
    ) -> [Value; 3] {
        let last = |axis| [Attribute::Int("axis", axis)];
        if queries == Queries::All {
            let all = self.linear(qkv, name, x);
            let parts = [&all, &self.shared.query_key_value];
            return self.g.nodes("Split", parts, &last(-1));
        }
        let weight = self.matrix(&format!("{name}.weight"), &qkv.weight);
        let parts = [&weight, &self.shared.query_rest];
        let [query, rest] = self.g.nodes("Split", parts, &last(1));
        let class = self.slice_tokens(x, 0, 1);
        let mut q = self.g.op("MatMul", [&class, &query]);
        let mut kv = self.g.op("MatMul", [x, &rest]);
        if let Some(bias) = &qkv.bias {
            let bias = self.parameter(&format!("{name}.bias"), bias);
            let parts = [&bias, &self.shared.query_rest];
            let [query, rest] = self.g.nodes("Split", parts, &last(0));
            q = self.g.op("Add", [&q, &query]);
            kv = self.g.op("Add", [&kv, &rest]);
        }
        let parts = [&kv, &self.shared.key_value];
        let [k, v] = self.g.nodes("Split", parts, &last(-1));
        [q, k, v]
    }

    /// `[B, N, D]` cut into heads, in the order of axes `order`.
    fn heads(&mut self, x: &Value, order: &[i64]) -> Value {
        let x = self.g.op("Reshape", [x, &self.shared.split_heads]);
        self.transpose(&x, order)
    }

    /// The class tokens `[B, D]`.
    fn class_token(&mut self, x: &Value, queries: Queries) -> Value {
        let x = match queries {
            Queries::Class => x.clone(),
            Queries::All => self.slice_tokens(x, 0, 1),
        };
        self.g.op("Squeeze", [&x, &self.shared.first])
    }

    /// The features `[B, F]` of normalised tokens.
    fn feature(&mut self, x: &Value, queries: Queries, feature: Feature) -> Value {
        match feature {
            Feature::Class => self.class_token(x, queries),
            Feature::Patches => self.mean_patch(x),
            Feature::Both => {
                let (class, mean) = (self.class_token(x, queries), self.mean_patch(x));
                self.concat([&class, &mean], 1)
            }
        }
    }

    /// The mean of the patch tokens, `[B, D]`.
    fn mean_patch(&mut self, x: &Value) -> Value {
        let patches = self.patch_tokens(x);
        let over_patches = [
            Attribute::Ints("axes", vec![1]),
            Attribute::Int("keepdims", 0),
        ];
        self.g.node("ReduceMean", [&patches], &over_patches)
    }

    fn patch_tokens(&mut self, x: &Value) -> Value {
        self.slice_tokens(x, self.vit.config().prefix() as i64, END)
    }

    /// The class token's row of attention to the patches, as maps.
    fn attention_maps(&mut self, probabilities: &Value, grid: &Grid) -> Value {
        self.g.enter("attention");
        let starts = self.g.ints(&[0, self.vit.config().prefix() as i64]);
        let ends = self.g.ints(&[1, END]);
        let axes = self.g.ints(&[2, 3]);
        let row = self.g.op("Slice", [probabilities, &starts, &ends, &axes]);
        let heads = self.g.ints(&[0, self.vit.config().heads as i64]);
        let h = self.g.op("Unsqueeze", [&grid.h, &self.shared.zeroth]);
        let w = self.g.op("Unsqueeze", [&grid.w, &self.shared.zeroth]);
        let shape = self.concat([&heads, &h, &w], 0);
        self.g.op("Reshape", [&row, &shape])
    }

    /// Features `[B, F]` to logits `[B, K]`.
    fn head(&mut self, head: &Head, features: &Value) -> Value {
        self.g.enter("head");
        let mut x = features.clone();
        let (last, before) = head.linears();
        for (name, linear) in before {
            x = self.linear(linear, &format!("head.{name}"), &x);
            x = self.gelu(&x);
        }
        x = self.linear(last.1, &format!("head.{}", last.0), &x);
        let squares = self.g.op("Mul", [&x, &x]);
        let keep = Attribute::Int("keepdims", 1);
        let sum = self
            .g
            .node("ReduceSum", [&squares, &self.shared.first], &[keep]);
        let length = self.g.op("Sqrt", [&sum]);
        let least = self.g.float(1e-12);
        let length = self.g.op("Max", [&length, &least]);
        let x = self.g.op("Div", [&x, &length]);
        let (k, b) = (head.config().out_dim, head.config().bottleneck_dim);
        let prototypes = transposed(&head.prototypes(), k, b);
        let prototypes = self.g.parameter("head.prototypes", &[b, k], &prototypes);
        self.g.op("MatMul", [&x, &prototypes])
    }

    fn layer_norm(&mut self, norm: &LayerNorm, name: &str, x: &Value) -> Value {
        let gamma = self.parameter(&format!("{name}.weight"), &norm.gamma);
        let beta = self.parameter(&format!("{name}.bias"), &norm.beta);
        let attributes = [
            Attribute::Int("axis", -1),
            Attribute::Float("epsilon", norm.eps() as f32),
        ];
        self.g
            .node("LayerNormalization", [x, &gamma, &beta], &attributes)
    }

    fn layer_scale(&mut self, scale: Option<&LayerScale>, name: &str, x: Value) -> Value {
        let Some(scale) = scale else { return x };
        let gamma = self.parameter(&format!("{name}.gamma"), &scale.gamma);
        self.g.op("Mul", [&x, &gamma])
    }

    fn linear(&mut self, linear: &Linear, name: &str, x: &Value) -> Value {
        let weight = self.matrix(&format!("{name}.weight"), &linear.weight);
        let y = self.g.op("MatMul", [x, &weight]);
        match &linear.bias {
            Some(bias) => {
                let bias = self.parameter(&format!("{name}.bias"), bias);
                self.g.op("Add", [&y, &bias])
            }
            None => y,
        }
    }

    /// x / 2 · (1 + erf(x / √2)), in the form that runtimes recognise and fuse.
    fn gelu(&mut self, x: &Value) -> Value {
        let y = self.g.op("Div", [x, &self.shared.sqrt_2]);
        let y = self.g.op("Erf", [&y]);
        let y = self.g.op("Add", [&y, &self.shared.one]);
        let y = self.g.op("Mul", [x, &y]);
        self.g.op("Mul", [&y, &self.shared.half])
    }

    /// silu(a) · b of two halves.
    fn swiglu(&mut self, x: &Value) -> Value {
        let hidden = self.vit.config().mlp_hidden() as i64;
        let widths = self.g.ints(&[hidden, hidden]);
        let last = [Attribute::Int("axis", -1)];
        let [gates, values] = self.g.nodes("Split", [x, &widths], &last);
        let open = self.g.op("Sigmoid", [&gates]);
        let gates = self.g.op("Mul", [&gates, &open]);
        self.g.op("Mul", [&gates, &values])
    }

    /// Tokens `from..to` of `[B, N, D]`.
    fn slice_tokens(&mut self, x: &Value, from: i64, to: i64) -> Value {
        let (from, to) = (self.list(from), self.list(to));
        self.g.op("Slice", [x, &from, &to, &self.shared.first])
    }

    fn list(&mut self, value: i64) -> Value {
        match value {
            0 => self.shared.zeroth.clone(),
            1 => self.shared.first.clone(),
            _ => self.g.ints(&[value]),
        }
    }

    fn transpose(&mut self, x: &Value, order: &[i64]) -> Value {
        let order = Attribute::Ints("perm", order.to_vec());
        self.g.node("Transpose", [x], &[order])
    }

    fn concat<const I: usize>(&mut self, parts: [&Value; I], axis: i64) -> Value {
        self.g
            .node("Concat", parts, &[Attribute::Int("axis", axis)])
    }

    fn parameter(&mut self, name: &str, param: &Param) -> Value {
        self.g.parameter(name, param.shape(), &param.to_vec())
    }

    /// A linear layer's weights `[O, I]` as a right operand `[I, O]`.
    fn matrix(&mut self, name: &str, weight: &Param) -> Value {
        let [outputs, inputs] = *weight.shape() else {
            unreachable!("linear layers have matrices")
        };
        let values = transposed(&weight.to_vec(), outputs, inputs);
        self.g.parameter(name, &[inputs, outputs], &values)
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| values[i % rows * columns + i / rows])
        .collect()
}
