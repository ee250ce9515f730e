//! The vision transformer (Dosovitskiy et al.), as DINO trains it.
//!
//! With what DINOv2 and DINOv3 have added: layer scale, register tokens, gated MLPs, rotary positions,
//! other epsilons and other rules for position embeddings.

mod block;
mod config;
mod patch_embed;

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use self::block::Tokens;
pub(crate) use self::block::branch_params;
pub use self::block::{Attention, Block, LayerNorm, LayerScale, Linear, Mlp};
pub use self::config::{MAX_PATCHES, VitConfig, check_patches};
pub use self::patch_embed::PatchEmbed;
pub(crate) use self::patch_embed::stem_kernel;

use crate::init::Init;
use crate::ops::branch::TokenGroup;
use crate::param::{Param, parameters};
use crate::position::{CoordinateChange, RotationBuilder, resampling};
use crate::{Feature, Result, ops};

/// What is dropped or hidden for which image while a network learns: residual branches and patches.
///
/// Stochastic depth (Huang et al.): a branch's output is multiplied by 0, or by
/// 1 / (1 − rate) where it survives, independently per image, block and branch.
/// Patch dropout (Liu et al., arXiv 2208.07220): the network does not see some of the patches.
/// Masks (Zhou et al., arXiv 2111.07832): it sees a learned token in place of some of them.
pub trait DropPath {
    /// Factors of all images, in the order of their tokens, of branch `branch` (0 attention,
    /// 1 MLP) of block `block`; `None` drops nothing.
    fn factors(&self, block: usize, branch: usize) -> Option<Vec<f32>>;

    /// The patches that are kept of the views of size number `size`, of which there are `images` with
    /// `patches` patches each: places in the grid, row by row, as many for each image as for another.
    /// `None` keeps all.
    fn kept_patches(&self, _size: usize, _images: usize, _patches: usize) -> Option<Vec<usize>> {
        None
    }

    /// Which patches of the views of size number `size` the network sees its
    /// [mask token](Vit::mask_token) in place of: rows of all of them, `image · patches + place`, ascending.
    fn masked_patches(&self, _size: usize) -> &[usize] {
        &[]
    }

    /// The tokens `[R, D]` before block `block`, as the network goes on with them: where a backward pass
    /// is interrupted, a leaf of a graph of its own.
    fn joint(&self, _block: usize, tokens: Tensor<2>) -> Tensor<2> {
        tokens
    }

    /// How the coordinates of rotary positions are moved for the views of size number `size`. `None`
    /// leaves them.
    fn coordinates(&self, _size: usize) -> Option<CoordinateChange> {
        None
    }
}

/// The most tokens whose attention is computed as a whole matrix where one row is wanted.
const MATRIX: usize = 1 << 12;

/// No branch is dropped.
pub struct NoDropPath;

impl DropPath for NoDropPath {
    fn factors(&self, _: usize, _: usize) -> Option<Vec<f32>> {
        None
    }
}

/// A vision transformer.
#[derive(Clone, Debug)]
pub struct Vit {
    config: VitConfig,
    /// Class token `[1, 1, D]`.
    pub cls_token: Param,
    /// Learned position embeddings `[1, 1 + side², D]`, the class token's first, unless positions are
    /// rotary.
    pub pos_embed: Option<Param>,
    /// Register tokens `[1, R, D]`, where the network has them.
    pub register_tokens: Option<Param>,
    /// What a masked patch is embedded as, `[1, D]`, where the network [has it](Vit::add_mask_token).
    pub mask_token: Option<Param>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// The transformer blocks.
    pub blocks: Vec<Block>,
    /// The final normalisation.
    pub norm: LayerNorm,
}
parameters!(Vit {
    cls_token,
    pos_embed,
    register_tokens,
    mask_token,
    patch_embed,
    blocks,
    norm
});

impl Vit {
    /// A network with the reference's initial weights.
    ///
    /// # Errors
    /// [`crate::Error::BadSetting`] where the sizes make no network.
    pub fn new(config: &VitConfig, init: &mut Init, device: &Device) -> Result<Self> {
        config.validate()?;
        let d = config.width;
        let tokens = 1 + config.side() * config.side();
        let pos_embed = config.rope.is_none().then(|| {
            let values = init.truncated_normal(tokens * d, 0.02);
            Param::new(values, &[1, tokens, d], true, device)
        });
        let cls_token = init.truncated_normal(d, 0.02);
        let patch_embed = PatchEmbed::new(config, init, device);
        let registers = (config.registers > 0).then(|| {
            let values = init.truncated_normal(config.registers * d, 0.02);
            Param::new(values, &[1, config.registers, d], true, device)
        });
        Ok(Self {
            config: config.clone(),
            cls_token: Param::new(cls_token, &[1, 1, d], true, device),
            pos_embed,
            register_tokens: registers,
            mask_token: None,
            patch_embed,
            blocks: (0..config.depth)
                .map(|_| Block::new(config, init, device))
                .collect(),
            norm: LayerNorm::new(d, config.layer_norm_eps, device),
        })
    }

    /// The sizes.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Gives the network a mask token, which begins as zeros, as DINOv2's does. A network without masked
    /// patches computes the same with it.
    pub fn add_mask_token(&mut self, device: &Device) {
        let d = self.config.width;
        self.mask_token = Some(Param::new(vec![0.0; d], &[1, d], true, device));
    }

    /// Images `[B, C, H, W]` as tokens `[B, 1 + R + N, D]`, class token first, then registers,
    /// then patches, positions added. `kept` are the places of patches `[B · N]` that are seen, if
    /// those are not all; if they are, `masked` are the rows of those that the mask token stands for.
    fn embed(&self, images: Tensor<4>, kept: Option<&[usize]>, masked: &[usize]) -> Tensor<3> {
        let [b, _, height, width] = images.dims();
        let (p, d) = (self.config.patch_size, self.config.width);
        let tokens = self.patch_embed.forward(images, p, kept);
        let cls = self.cls_token.get::<3>().expand([b, 1, d]);
        let Some(positions) = self.positions(height / p, width / p) else {
            return self.with_registers(cls, self.with_masks(tokens, masked));
        };
        let x = match kept {
            None => Tensor::cat(vec![cls, self.with_masks(tokens, masked)], 1) + positions,
            Some(kept) => {
                let tokens = tokens + keep_positions(positions.clone(), b, kept);
                Tensor::cat(vec![cls + positions.narrow(1, 0, 1), tokens], 1)
            }
        };
        if self.register_tokens.is_none() {
            return x;
        }
        let n = x.dims()[1] - 1;
        let (cls, tokens) = (x.clone().narrow(1, 0, 1), x.narrow(1, 1, n));
        self.with_registers(cls, tokens)
    }

    /// Embedded patches `[B, N, D]` with the mask token in place of the rows `masked`, before positions are
    /// added.
    fn with_masks(&self, tokens: Tensor<3>, masked: &[usize]) -> Tensor<3> {
        let Some(mask_token) = self.mask_token.as_ref().filter(|_| !masked.is_empty()) else {
            return tokens;
        };
        let [b, n, d] = tokens.dims();
        let mut hidden = vec![0.0f32; b * n];
        for &row in masked {
            hidden[row] = 1.0;
        }
        let hidden = TensorData::new(hidden, [b, n, 1]);
        let hidden = Tensor::<3>::from_data(hidden, &tokens.device());
        let seen = hidden.clone() * -1.0 + 1.0;
        tokens * seen + mask_token.get::<2>().reshape([1, 1, d]) * hidden
    }

    /// Class tokens `[B, 1, D]`, the registers and the patches' tokens `[B, N, D]`.
    fn with_registers(&self, cls: Tensor<3>, tokens: Tensor<3>) -> Tensor<3> {
        let [b, _, d] = cls.dims();
        let mut parts = vec![cls];
        if let Some(registers) = &self.register_tokens {
            parts.push(registers.get::<3>().expand([b, self.config.registers, d]));
        }
        parts.push(tokens);
        Tensor::cat(parts, 1)
    }

    /// Tokens `[B, 1 + R + N, D]` without the registers.
    fn without_registers(&self, x: Tensor<3>) -> Tensor<3> {
        let (prefix, n) = (self.config.prefix(), x.dims()[1]);
        if prefix == 1 {
            return x;
        }
        let (cls, tokens) = (x.clone().narrow(1, 0, 1), x.narrow(1, prefix, n - prefix));
        Tensor::cat(vec![cls, tokens], 1)
    }

    /// Learned position embeddings `[1, 1 + h·w, D]` for `h × w` patches.
    fn positions(&self, h: usize, w: usize) -> Option<Tensor<3>> {
        let (side, d) = (self.config.side(), self.config.width);
        let all = self.pos_embed.as_ref()?.get::<3>();
        Some(
            match resampling(side, h, w, self.config.position_rule, &all.device()) {
                None => all,
                Some(matrix) => {
                    let cls = all.clone().narrow(1, 0, 1);
                    let grid = all.narrow(1, 1, side * side).reshape([side * side, d]);
                    Tensor::cat(
                        vec![cls, ops::matmul(matrix, grid).reshape([1, h * w, d])],
                        1,
                    )
                }
            },
        )
    }

    /// Tokens `[R, D]` of images of several sizes, one size after the other.
    fn embed_all(&self, sizes: Vec<Tensor<4>>, drop: &dyn DropPath) -> (Tensor<2>, Tokens) {
        let mut groups = Vec::with_capacity(sizes.len());
        let mut places = self
            .config
            .rope
            .map(|rope| (rope, RotationBuilder::default()));
        let head_width = self.config.head_width();
        let mut tokens = Vec::with_capacity(sizes.len());
        for (size, images) in sizes.into_iter().enumerate() {
            let [b, _, height, width] = images.dims();
            let p = self.config.patch_size;
            let (h, w) = (height / p, width / p);
            let kept = drop.kept_patches(size, b, h * w);
            if let Some((rope, builder)) = &mut places {
                let table = rope.table(head_width, h, w, drop.coordinates(size));
                builder.add(head_width, table, b, self.config.prefix(), kept.as_deref());
            }
            let x = self.embed(images, kept.as_deref(), drop.masked_patches(size));
            let [images, n, d] = x.dims();
            groups.push(TokenGroup { images, tokens: n });
            tokens.push(x.reshape([images * n, d]));
        }
        let x = match tokens.len() {
            1 => tokens.remove(0),
            _ => Tensor::cat(tokens, 0),
        };
        let rotation = places.map(|(_, builder)| Arc::new(builder.finish(head_width)));
        (x, Tokens { groups, rotation })
    }

    /// Tokens `[R, D]` through the first `blocks` blocks.
    fn through(
        &self,
        blocks: usize,
        mut x: Tensor<2>,
        tokens: &Tokens,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        for (i, block) in self.blocks[..blocks].iter().enumerate() {
            x = block.forward(drop.joint(i, x), tokens, i, drop);
        }
        x
    }

    /// Class tokens after the final norm: images `[B, C, H, W]` → `[B, D]`.
    pub fn forward(&self, images: Tensor<4>) -> Tensor<2> {
        self.forward_views(vec![images], &NoDropPath)
    }

    /// Class tokens after the final norm of images of several sizes, each `[B, C, H, W]` →
    /// `[ΣB, D]`. The tokens of all of them are batched through each linear layer; attention alone
    /// keeps images apart. The last block computes what reaches class tokens and no more.
    pub fn forward_views(&self, views: Vec<Tensor<4>>, drop: &dyn DropPath) -> Tensor<2> {
        let (x, runs) = self.embed_all(views, drop);
        let (last, before) = self.blocks.split_last().expect("a network has blocks");
        let x = self.through(before.len(), x, &runs, drop);
        let x = drop.joint(before.len(), x);
        let x = last.forward_class(x, &runs, before.len(), drop);
        let [b, d] = x.dims();
        self.norm.forward(x.reshape([1, b, d])).reshape([b, d])
    }

    /// Features after the final norm of images of several sizes, each `[B, C, H, W]` → `[ΣB, F]`, `F`
    /// the [width](Feature::width) of the feature. For the class token alone, this is
    /// [`Vit::forward_views`]; for the mean of patches, the last block computes all tokens.
    pub fn features(
        &self,
        views: Vec<Tensor<4>>,
        feature: Feature,
        drop: &dyn DropPath,
    ) -> Tensor<2> {
        if feature.is_class() {
            return self.forward_views(views, drop);
        }
        let (x, runs) = self.embed_all(views, drop);
        let x = self.through(self.blocks.len(), x, &runs, drop);
        let [rows, d] = x.dims();
        let x = self.norm.forward(x.reshape([1, rows, d]));
        let mut row = 0;
        let parts = runs.groups.iter().map(|&TokenGroup { images, tokens }| {
            let part = x.clone().narrow(1, row, images * tokens);
            row += images * tokens;
            let patches = tokens - self.config.prefix();
            feature.of(part.reshape([images, tokens, d]), patches)
        });
        let mut parts: Vec<_> = parts.collect();
        match parts.len() {
            1 => parts.remove(0),
            _ => Tensor::cat(parts, 0),
        }
    }

    /// Class tokens `[ΣB, D]` of images of several sizes, each `[B, C, H, W]`, and the patch tokens `[M, D]` of
    /// the rows `patches` of the first size, `image · N + place`, all after the final norm; `None` if there
    /// are none. All patches of that size are seen.
    pub fn class_and_patches(
        &self,
        views: Vec<Tensor<4>>,
        patches: &[usize],
        drop: &dyn DropPath,
    ) -> (Tensor<2>, Option<Tensor<2>>) {
        if patches.is_empty() {
            return (self.forward_views(views, drop), None);
        }
        let (x, runs) = self.embed_all(views, drop);
        let x = self.through(self.blocks.len(), x, &runs, drop);
        let mut first = 0;
        let mut rows = Vec::with_capacity(patches.len());
        for &TokenGroup { images, tokens } in &runs.groups {
            rows.extend((0..images).map(|image| (first + image * tokens) as i64));
            first += images * tokens;
        }
        let (classes, masked, d) = (rows.len(), patches.len(), self.config.width);
        let (tokens, prefix) = (runs.groups[0].tokens, self.config.prefix());
        let n = tokens - prefix;
        rows.extend(
            patches
                .iter()
                .map(|row| (row / n * tokens + prefix + row % n) as i64),
        );
        let total = rows.len();
        let x = select_rows(x, rows);
        let x = self
            .norm
            .forward(x.reshape([1, total, d]))
            .reshape([total, d]);
        let class = x.clone().narrow(0, 0, classes);
        (class, Some(x.narrow(0, classes, masked)))
    }

    /// All tokens of the last `n` blocks, each after the *final* norm: `n` × `[B, 1 + N, D]`,
    /// earliest block first. Registers are left out.
    pub fn intermediate(&self, images: Tensor<4>, n: usize) -> Vec<Tensor<3>> {
        let (mut x, runs) = self.embed_all(vec![images], &NoDropPath);
        let TokenGroup { images, tokens } = runs.groups[0];
        let first = self.blocks.len().saturating_sub(n);
        let mut taps = Vec::with_capacity(n);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(x, &runs, i, &NoDropPath);
            if i >= first {
                let shape = [images, tokens, self.config.width];
                let tokens = self.norm.forward(x.clone().reshape(shape));
                taps.push(self.without_registers(tokens));
            }
        }
        taps
    }

    /// Class and patch tokens after the final norm, `[B, 1 + N, D]`, of images of which all patches are seen.
    /// Registers are left out.
    pub fn all_tokens(&self, images: Tensor<4>, drop: &dyn DropPath) -> Tensor<3> {
        let (x, runs) = self.embed_all(vec![images], drop);
        let x = self.through(self.blocks.len(), x, &runs, drop);
        let TokenGroup { images, tokens } = runs.groups[0];
        let x = self
            .norm
            .forward(x.reshape([images, tokens, self.config.width]));
        self.without_registers(x)
    }

    /// Attention weights of the last block: `[B, H, 1 + R + N, 1 + R + N]`, registers included.
    pub fn last_attention(&self, images: Tensor<4>) -> Tensor<4> {
        let (last, x, tokens) = self.before_last(images);
        last.attention(x, tokens.rotation.as_deref())
    }

    /// The last block and what comes into it, `[B, 1 + R + N, D]`.
    fn before_last(&self, images: Tensor<4>) -> (&Block, Tensor<3>, Tokens) {
        let (x, runs) = self.embed_all(vec![images], &NoDropPath);
        let TokenGroup { images, tokens } = runs.groups[0];
        let (last, before) = self.blocks.split_last().expect("a network has blocks");
        let x = self.through(before.len(), x, &runs, &NoDropPath);
        let x = x.reshape([images, tokens, self.config.width]);
        (last, x, runs)
    }

    /// Attention of the last block's class token to the patches: `[B, H, h, w]`, where
    /// `h × w` are the image's patches. Each head's map sums to 1 less the share of the class token
    /// and of registers.
    pub fn class_attention(&self, images: Tensor<4>) -> Tensor<4> {
        let [_, _, height, width] = images.dims();
        let (h, w) = (
            height / self.config.patch_size,
            width / self.config.patch_size,
        );
        let (last, x, tokens) = self.before_last(images);
        let rotation = tokens.rotation.as_deref();
        // The same up to rounding, and one row of each head in place of a matrix.
        let class = match x.dims()[1] {
            0..=MATRIX => last.attention(x, rotation).narrow(2, 0, 1),
            _ => last.first_attention(x, rotation),
        };
        let [b, heads, _, _] = class.dims();
        class
            .narrow(3, self.config.prefix(), h * w)
            .reshape([b, heads, h, w])
    }
}

/// The position embeddings (of `[1, 1 + N, D]`) of kept patches, `[B, M, D]`.
fn keep_positions(positions: Tensor<3>, b: usize, kept: &[usize]) -> Tensor<3> {
    let [_, tokens, d] = positions.dims();
    let n = tokens - 1;
    let places = kept.iter().map(|&place| place as i64).collect();
    let own = positions.narrow(1, 1, n).reshape([n, d]);
    select_rows(own, places).reshape([b, kept.len() / b, d])
}

/// Rows of a matrix.
fn select_rows(x: Tensor<2>, rows: Vec<i64>) -> Tensor<2> {
    let len = rows.len();
    let rows = TensorData::new(rows, [len]);
    let rows = Tensor::<1, Int>::from_data(rows, &x.device());
    x.select(0, rows)
}
