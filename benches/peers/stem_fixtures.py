"""Makes the small transformers with a convolutional stem that the tests of weight files and of training read.

    python stem_fixtures.py ../../crates/dinolab-nn/tests/fixtures/stem

The networks are timm's `VisionTransformer` behind its `ConvStem`, with layer normalisation and GELU, for patches of 8
and 16 px. `timm-P.safetensors` are their state dictionaries. `expected-P.safetensors` has images of three sizes with
the class tokens of the network, features of two sizes of views in training, and the gradients of a sum of them with
given weights.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.layers import HybridEmbed, LayerNorm2d
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import nn

WIDTH, DEPTH, HEADS, IMAGE = 16, 2, 2, 48


def network(patch: int) -> VisionTransformer:
    """A transformer of tokens of `patch` px, which a stem of strides 4, 2, … makes."""
    steps = (patch // 4).bit_length() - 1
    stem = ConvStem(
        channels=tuple(WIDTH >> steps - i for i in range(steps + 1)),
        kernel_size=(4,) + (3,) * steps,
        stride=(4,) + (2,) * steps,
        padding=(0,) + (1,) * steps,
        depth=steps + 1,
        norm_layer=partial(LayerNorm2d, eps=1e-6),
        act_layer=nn.GELU,
    )
    return VisionTransformer(
        img_size=IMAGE,
        patch_size=1,
        embed_dim=WIDTH,
        depth=DEPTH,
        num_heads=HEADS,
        num_classes=0,
        dynamic_img_size=True,
        embed_layer=partial(HybridEmbed, backbone=stem, proj=False),
    )


def enliven(module: nn.Module, seed: int) -> nn.Module:
    """Gives every scale and shift a value of its own, and weights values that count."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.named_parameters():
            if tensor.dim() > 1:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=random)
            elif ("norm" in name or ".bn." in name) and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5, generator=random)
            else:
                tensor.uniform_(-0.3, 0.3, generator=random)
    return module


def main() -> None:
    """Writes the folder."""
    torch.set_num_threads(2)
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    for patch in (8, 16):
        vit = enliven(network(patch), patch).eval()
        save_file(vit.state_dict(), root / f"timm-{patch}.safetensors", {"format": "pt", "num_heads": str(HEADS)})
        random = torch.Generator().manual_seed(3)
        found = {}
        for height, width in ((48, 48), (64, 32), (16, 80)):
            image = torch.randn(1, 3, height, width, generator=random)
            found[f"image.{height}x{width}"] = image
            with torch.no_grad():
                found[f"features.{height}x{width}"] = vit(image)
        views = [torch.randn(b, 3, side, side, generator=random) for b, side in ((2, 48), (3, 32))]
        features = torch.cat([vit(view) for view in views])
        along = torch.randn(features.shape, generator=random)
        (features * along).sum().backward()
        found |= {f"view.{i}": view for i, view in enumerate(views)}
        found |= {"training.features": features.detach(), "along": along}
        found |= {f"gradient.{name}": tensor.grad for name, tensor in vit.named_parameters()}
        save_file(found, root / f"expected-{patch}.safetensors")


if __name__ == "__main__":
    main()
