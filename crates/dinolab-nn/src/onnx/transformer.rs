//! The nodes of a vision transformer.

use super::Options;
use super::graph::{Attribute, Graph, Value};
use super::layers::END;
use super::network::Outputs;
use super::positions::{self, Grid};
use super::rotary::{self, Rotary};
use crate::Vit;
use crate::ops::conv::Kernel;
use crate::param::Param;
use crate::vit::{Block, Linear, stem_kernel};

/// The outputs of a transformer for `images`.
pub(super) fn outputs(g: &mut Graph, vit: &Vit, images: &Value, options: &Options) -> Outputs {
    let config = vit.config();
    let mut emit = Emit {
        shared: Shared::new(g, vit),
        g,
        vit,
        rotary: None,
    };
    let (tokens, grid) = emit.embed(images);
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
    let x = emit.g.layer_norm(&vit.norm, "norm", &x);
    Outputs {
        feature: emit.g.feature(&x, prefix, options.feature),
        patches: options
            .patch_features
            .then(|| emit.g.slice_tokens(&x, prefix as i64, END)),
        attention: options
            .attention
            .then(|| emit.attention_maps(&probabilities, &grid)),
    }
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
        let mut x = match config.conv_stem {
            true => self.whole_patches(images),
            false => images.clone(),
        };
        for (number, layer) in self.vit.patch_embed.stem.iter().enumerate() {
            let at = |part: &str| format!("patch_embed.stem.{number}.{part}");
            let weight = self.g.param(&at("conv.weight"), &layer.conv.weight);
            let window = Graph::window(stem_kernel(number));
            let y = self.g.node("Conv", [&x, &weight], &window);
            let y = self.g.transpose(&y, &[0, 2, 3, 1]);
            let y = self.g.layer_norm(&layer.norm, &at("norm"), &y);
            let y = self.g.gelu(&y);
            x = self.g.transpose(&y, &[0, 3, 1, 2]);
        }
        let proj = &self.vit.patch_embed.proj;
        let weight = self.g.param("patch_embed.proj.weight", &proj.weight);
        let bias = proj
            .bias
            .as_ref()
            .map_or_else(|| vec![0.0; d], Param::to_vec);
        let bias = self.g.parameter("patch_embed.proj.bias", &[d], &bias);
        let kernel = match self.vit.patch_embed.stem.len() {
            0 => Kernel {
                side: p,
                stride: p,
                padding: 0,
            },
            layers => stem_kernel(layers),
        };
        let window = Graph::window(kernel);
        let patches = self.g.node("Conv", [&x, &weight, &bias], &window);
        let shape = self.g.op("Shape", [&patches]);
        let size = |g: &mut Graph, axis| {
            let axis = g.int(axis);
            g.op("Gather", [&shape, &axis])
        };
        let grid = Grid {
            h: size(self.g, 2),
            w: size(self.g, 3),
        };
        let zeroth = self.g.ints(&[0]);
        let batch = self.g.op("Gather", [&shape, &zeroth]);
        let flat = self.g.ints(&[0, 0, -1]);
        let patches = self.g.op("Reshape", [&patches, &flat]);
        let patches = self.g.transpose(&patches, &[0, 2, 1]);

        let (mut prefix, patches) = match &self.vit.pos_embed {
            None => {
                self.g.enter("tokens");
                (self.g.param("cls_token", &self.vit.cls_token), patches)
            }
            Some(learned) => self.placed(learned, &patches, &grid),
        };
        if let Some(registers) = &self.vit.register_tokens {
            let registers = self.g.param("register_tokens", registers);
            prefix = self.g.concat([&prefix, &registers], 1);
        }
        let ones = self.g.ints(&[1, 1]);
        let shape = self.g.concat([&batch, &ones], 0);
        let prefix = self.g.op("Expand", [&prefix, &shape]);
        (self.g.concat([&prefix, &patches], 1), grid)
    }

    /// The images without what is beyond a whole number of patches.
    fn whole_patches(&mut self, images: &Value) -> Value {
        let patch = self.vit.config().patch_size as i64;
        let shape = self.g.op("Shape", [images]);
        let (start, end) = (self.g.ints(&[2]), self.g.ints(&[4]));
        let sides = self.g.op("Slice", [&shape, &start, &end]);
        let patch = self.g.ints(&[patch, patch]);
        let grid = self.g.op("Div", [&sides, &patch]);
        let sides = self.g.op("Mul", [&grid, &patch]);
        let (zeros, axes) = (self.g.ints(&[0, 0]), self.g.ints(&[2, 3]));
        self.g.op("Slice", [images, &zeros, &sides, &axes])
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
        let token = self.g.param("cls_token", &self.vit.cls_token);
        (self.g.op("Add", [&token, &class]), patches)
    }

    /// Tokens `[B, N, D]` after a block, and attention `[B, H, N, N]`; of the class token alone,
    /// `[B, 1, D]` and `[B, H, 1, N]`, where that is all that is asked for.
    fn block(&mut self, i: usize, block: &Block, x: &Value, queries: Queries) -> (Value, Value) {
        let at = |part: &str| format!("blocks.{i}.{part}");
        self.g.enter(&at("norm1"));
        let normal = self.g.layer_norm(&block.norm1, &at("norm1"), x);
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
                self.g.transpose(&k, &[0, 1, 3, 2])
            }
        };
        let v = self.heads(&v, &[0, 2, 1, 3]);
        let q = self.g.op("Mul", [&q, &self.shared.scale]);
        let scores = self.g.op("MatMul", [&q, &k]);
        let last = Attribute::Int("axis", -1);
        let probabilities = self.g.node("Softmax", [&scores], &[last]);
        let mixed = self.g.op("MatMul", [&probabilities, &v]);
        let mixed = self.g.transpose(&mixed, &[0, 2, 1, 3]);
        let mixed = self.g.op("Reshape", [&mixed, &self.shared.join_heads]);
        let branch = self.g.linear(&block.attn.proj, &at("attn.proj"), &mixed);
        let branch = self.g.layer_scale(block.ls1.as_ref(), &at("ls1"), branch);
        let x = match queries {
            Queries::All => x.clone(),
            Queries::Class => self.g.slice_tokens(x, 0, 1),
        };
        let x = self.g.op("Add", [&x, &branch]);

        self.g.enter(&at("norm2"));
        let normal = self.g.layer_norm(&block.norm2, &at("norm2"), &x);
        self.g.enter(&at("mlp"));
        let hidden = self.g.linear(&block.mlp.fc1, &at("mlp.fc1"), &normal);
        let hidden = match block.mlp.is_gated() {
            true => self.swiglu(&hidden),
            false => self.g.gelu(&hidden),
        };
        let branch = self.g.linear(&block.mlp.fc2, &at("mlp.fc2"), &hidden);
        let branch = self.g.layer_scale(block.ls2.as_ref(), &at("ls2"), branch);
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
            let all = self.g.linear(qkv, name, x);
            let parts = [&all, &self.shared.query_key_value];
            return self.g.nodes("Split", parts, &last(-1));
        }
        let weight = self.g.matrix(&format!("{name}.weight"), &qkv.weight);
        let parts = [&weight, &self.shared.query_rest];
        let [query, rest] = self.g.nodes("Split", parts, &last(1));
        let class = self.g.slice_tokens(x, 0, 1);
        let mut q = self.g.op("MatMul", [&class, &query]);
        let mut kv = self.g.op("MatMul", [x, &rest]);
        if let Some(bias) = &qkv.bias {
            let bias = self.g.param(&format!("{name}.bias"), bias);
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
        self.g.transpose(&x, order)
    }

    /// The class token's row of attention to the patches, as maps.
    fn attention_maps(&mut self, probabilities: &Value, grid: &Grid) -> Value {
        self.g.enter("attention");
        let starts = self.g.ints(&[0, self.vit.config().prefix() as i64]);
        let ends = self.g.ints(&[1, END]);
        let axes = self.g.ints(&[2, 3]);
        let row = self.g.op("Slice", [probabilities, &starts, &ends, &axes]);
        let heads = self.g.ints(&[0, self.vit.config().heads as i64]);
        let zeroth = self.g.ints(&[0]);
        let h = self.g.op("Unsqueeze", [&grid.h, &zeroth]);
        let w = self.g.op("Unsqueeze", [&grid.w, &zeroth]);
        let shape = self.g.concat([&heads, &h, &w], 0);
        self.g.op("Reshape", [&row, &shape])
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
}
