"""The reference's networks: a vision transformer and the DINO projection head.

Parameter names are those of the reference's checkpoints.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ARCHITECTURES = {"vit_tiny": (192, 3), "vit_small": (384, 6), "vit_base": (768, 12)}
"""Width and heads by name; all are 12 blocks deep."""


@dataclass(frozen=True)
class VitConfig:
    """Sizes of a vision transformer."""

    image_size: int
    patch_size: int
    width: int
    heads: int
    depth: int = 12
    drop_path_rate: float = 0.0
    conv_stem: bool = False
    registers: int = 0
    layer_scale: bool = False
    swiglu: bool = False
    rope: bool = False

    @staticmethod
    def named(
        arch: str, patch_size: int, image_size: int, drop_path_rate: float = 0.0, **others: Any
    ) -> VitConfig:
        """The sizes of `arch`."""
        width, heads = ARCHITECTURES[arch]
        return VitConfig(
            image_size, patch_size, width, heads, drop_path_rate=drop_path_rate, **others
        )


@dataclass(frozen=True)
class HeadConfig:
    """Sizes of a projection head."""

    out_dim: int
    hidden_dim: int = 2048
    bottleneck_dim: int = 256
    norm_last_layer: bool = True


def init_linear(linear: nn.Linear) -> nn.Linear:
    """Weights from a normal of deviation 0.02, cut at ±2; biases 0."""
    nn.init.trunc_normal_(linear.weight, std=0.02, a=-2.0, b=2.0)
    nn.init.zeros_(linear.bias)
    return linear


Rotation = tuple[Tensor, Tensor]
"""Cosines and sines of the angles of all patches, `[N, D / heads]` each."""


def rotated(x: Tensor, rotation: Rotation) -> Tensor:
    """Turns the heads `[B, H, N, w]` of patches; what precedes them stays."""
    cosines, sines = rotation
    count = cosines.shape[0]
    before, patches = x.split([x.shape[2] - count, count], dim=2)
    first, second = patches.chunk(2, dim=-1)
    turned = patches * cosines + torch.cat([-second, first], dim=-1) * sines
    return torch.cat([before, turned], dim=2)


class Attention(nn.Module):
    """Self-attention of several heads."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = init_linear(nn.Linear(width, 3 * width))
        self.proj = init_linear(nn.Linear(width, width))

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if rotation is not None:
            query, key = rotated(query, rotation), rotated(key, rotation)
        mixed = F.scaled_dot_product_attention(query, key, value)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Mlp(nn.Module):
    """Two linear maps with an exact GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = init_linear(nn.Linear(width, 4 * width))
        self.fc2 = init_linear(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class GatedMlp(nn.Module):
    """SwiGLU: gates and values of two thirds of the hidden width of `Mlp`, in multiples of 8."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = (int(4 * width * 2 / 3) + 7) // 8 * 8
        self.fc1 = init_linear(nn.Linear(width, 2 * hidden))
        self.fc2 = init_linear(nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)


class LayerScale(nn.Module):
    """A factor for each channel of a branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block with stochastic depth."""

    def __init__(self, config: VitConfig, drop: float) -> None:
        super().__init__()
        width = config.width
        scale = LayerScale if config.layer_scale else nn.Identity
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, config.heads)
        self.ls1 = scale(width)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = GatedMlp(width) if config.swiglu else Mlp(width)
        self.ls2 = scale(width)
        self.drop = drop

    def survive(self, branch: Tensor) -> Tensor:
        """Drops the branch of some samples and scales the others up."""
        if self.drop == 0.0 or not self.training:
            return branch
        keep = 1.0 - self.drop
        alive = torch.rand(branch.shape[0], 1, 1, device=branch.device) < keep
        return branch * (alive.to(branch.dtype) / keep)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        x = x + self.survive(self.ls1(self.attn(self.norm1(x), rotation)))
        return x + self.survive(self.ls2(self.mlp(self.norm2(x))))


class PatchEmbed(nn.Module):
    """Non-overlapping patches to tokens; PyTorch's default initial weights."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of `[B, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvStem(nn.Module):
    """Patches of 4 px, then convolutions of stride 2, to tokens of `patch_size` px."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        steps = (patch_size // 4).bit_length() - 1
        layers: list[nn.Module] = []
        inputs = 3
        for layer in range(steps):
            outputs = width >> steps - layer
            window = (4, 4, 0) if layer == 0 else (3, 2, 1)
            layers += [
                nn.Conv2d(inputs, outputs, *window, bias=False),
                ChannelNorm(outputs, eps=1e-6),
                nn.GELU(),
            ]
            inputs = outputs
        self.stem = nn.Sequential(*layers)
        self.proj = nn.Conv2d(inputs, width, 3, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        images = images.to(memory_format=torch.channels_last)
        return self.proj(self.stem(images)).flatten(2).transpose(1, 2)


class Vit(nn.Module):
    """The backbone: `[B, 3, H, W]` to the normalised class tokens `[B, D]`."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__()
        self.config = config
        self.side = config.image_size // config.patch_size
        width = config.width
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        if config.registers > 0:
            self.register_tokens = nn.Parameter(torch.randn(1, config.registers, width) * 1e-6)
        if not config.rope:
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.side**2, width))
        patches = ConvStem if config.conv_stem else PatchEmbed
        self.patch_embed = patches(config.patch_size, width)
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            Block(config, config.drop_path_rate * i / last) for i in range(config.depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        for token in (self.cls_token, *([] if config.rope else [self.pos_embed])):
            nn.init.trunc_normal_(token, std=0.02, a=-2.0, b=2.0)

    def positions(self, height: int, width: int) -> Tensor:
        """Position embeddings for a grid of patches, resampled where it is not the trained one."""
        if height == width and height * width == self.side**2:
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, self.side, self.side, -1).permute(0, 3, 1, 2)
        # The scale that is passed, not the ratio of sizes, sets the sampling positions.
        scale = ((height + 0.1) / self.side, (width + 0.1) / self.side)
        grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def rotation(self, height: int, width: int) -> Rotation:
        """The angles of DINOv3 (base 100) for a grid of patches."""
        quarter = self.config.width // self.config.heads // 4
        device = self.cls_token.device
        periods = 100.0 ** (torch.arange(quarter, device=device) / quarter)
        places = [(2 * torch.arange(n, device=device) + 1) / n - 1 for n in (height, width)]
        coordinates = torch.stack(torch.meshgrid(*places, indexing="ij"), dim=-1).reshape(-1, 2, 1)
        angles = (2 * math.pi * coordinates / periods).flatten(1).tile(2)
        return angles.cos(), angles.sin()

    def forward(self, images: Tensor) -> Tensor:
        patch = self.config.patch_size
        height, width = images.shape[-2] // patch, images.shape[-1] // patch
        cls = self.cls_token.expand(images.shape[0], -1, -1)
        x = torch.cat([cls, self.patch_embed(images)], dim=1)
        rotation = self.rotation(height, width) if self.config.rope else None
        if rotation is None:
            x = x + self.positions(height, width)
        if self.config.registers > 0:
            registers = self.register_tokens.expand(images.shape[0], -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x, rotation)
        return self.norm(x)[:, 0]


class Prototypes(nn.Module):
    """A linear map without bias whose rows have the length `weight_g`."""

    def __init__(self, inputs: int, outputs: int, train_length: bool) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(outputs, 1), requires_grad=train_length)
        self.weight_v = nn.Parameter(torch.empty(outputs, inputs))
        nn.init.uniform_(self.weight_v, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs))

    def forward(self, x: Tensor) -> Tensor:
        # What `torch.nn.utils.parametrizations.weight_norm` calls, under the reference's names.
        return F.linear(x, torch._weight_norm(self.weight_v, self.weight_g, 0))


class Head(nn.Module):
    """The projection head: class tokens `[B, D]` to logits `[B, K]`."""

    def __init__(self, width: int, config: HeadConfig) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            init_linear(nn.Linear(width, config.hidden_dim)),
            nn.GELU(),
            init_linear(nn.Linear(config.hidden_dim, config.hidden_dim)),
            nn.GELU(),
            init_linear(nn.Linear(config.hidden_dim, config.bottleneck_dim)),
        )
        self.last_layer = Prototypes(config.bottleneck_dim, config.out_dim, not config.norm_last_layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.last_layer(F.normalize(self.mlp(x), dim=-1))


@dataclass(frozen=True)
class ConvolutionalConfig:
    """One of torchvision's residual networks or timm's ConvNeXts, without its classifier."""

    arch: str
    drop_path_rate: float = 0.0
    """Of a ConvNeXt; a residual network has no stochastic depth."""
    other_width: int | None = None
    """Of a residual network whose channels are in proportion to it."""

    @property
    def width(self) -> int:
        """Width of a feature."""
        return self.other_width or CONVOLUTIONAL[self.arch]

    def network(self) -> nn.Module:
        """The network with random weights, in the layout that is fastest on a CPU."""
        if self.arch.startswith("convnext"):
            import timm

            assert self.other_width is None, "a ConvNeXt is measured as published"
            network = timm.create_model(self.arch, num_classes=0, drop_path_rate=self.drop_path_rate)
        elif self.other_width is not None:
            network = residual(self.arch, self.other_width)
        else:
            import torchvision

            network = getattr(torchvision.models, self.arch)(weights=None)
            network.fc = nn.Identity()
        return network.to(memory_format=torch.channels_last)


def residual(arch: str, width: int) -> nn.Module:
    """torchvision's blocks, their channels in proportion to features of `width`."""
    from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

    block, blocks = {
        "resnet18": (BasicBlock, (2, 2, 2, 2)),
        "resnet34": (BasicBlock, (3, 4, 6, 3)),
        "resnet50": (Bottleneck, (3, 4, 6, 3)),
    }[arch]
    inputs = channels = width // block.expansion // 8
    layers: list[nn.Module] = [
        nn.Conv2d(3, channels, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
    ]
    for stage, count in enumerate(blocks):
        outputs = (channels << stage) * block.expansion
        for place in range(count):
            stride = 2 if stage > 0 and place == 0 else 1
            shortcut = None
            if stride > 1 or inputs != outputs:
                shortcut = nn.Sequential(conv1x1(inputs, outputs, stride), nn.BatchNorm2d(outputs))
            layers.append(block(inputs, channels << stage, stride, shortcut))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


CONVOLUTIONAL = {
    "resnet18": 512,
    "resnet34": 512,
    "resnet50": 2048,
    "convnext_atto": 320,
    "convnext_pico": 512,
    "convnext_tiny": 768,
    "convnext_small": 768,
}
"""Widths of the convolutional networks by name."""


def backbone_of(config: VitConfig | ConvolutionalConfig) -> nn.Module:
    """The backbone with random weights."""
    return config.network() if isinstance(config, ConvolutionalConfig) else Vit(config)


class Network(nn.Module):
    """Backbone and head. Views of one size go through the backbone together."""

    def __init__(self, vit: VitConfig | ConvolutionalConfig, head: HeadConfig) -> None:
        super().__init__()
        self.backbone = backbone_of(vit)
        self.head = Head(vit.width, head)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Logits of all views, in order; one tensor of `views` per size."""
        return self.head(torch.cat([self.backbone(images) for images in views]))
