"""Makes the small ConvNeXts that the tests of weight files and of training read.

    python convnext_fixtures.py ../../crates/dinolab-nn/tests/fixtures/convnext

The networks are those of timm and transformers, narrower than the published ones. `timm.safetensors` and
`timm-conv.pth` (MLPs of convolutions) are state dictionaries of timm's class, `hf` and `dinov3` folders of
`ConvNextModel` and `DINOv3ConvNextModel`. All have the same values. `expected.safetensors` has images of
three sizes with their features and, of transformers' DINOv3 class, all tokens; and, of the network in
training, the features of two sizes of views and the gradients of a sum of them with given weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from timm.models.convnext import ConvNeXt
from torch import nn
from transformers import (
    ConvNextConfig,
    ConvNextModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
)

WIDTHS = (5, 8, 6, 10)
DEPTHS = (1, 1, 2, 1)
SIZES = ((64, 64), (70, 33), (47, 96))
VIEWS = ((3, 64), (5, 35))


def enliven(network: nn.Module, seed: int) -> nn.Module:
    """Gives every scale, shift and layer scale a value of its own, and weights values that count."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.dim() > 1:
                fan_in = tensor[0].numel()
                tensor.normal_(0, fan_in**-0.5, generator=random)
            elif name.endswith(("gamma", "layer_scale_parameter")) or "norm" in name and name.endswith("weight"):
                tensor.uniform_(0.5, 1.5, generator=random)
            else:
                tensor.uniform_(-0.3, 0.3, generator=random)
    return network


def in_order(network: nn.Module) -> list[torch.Tensor]:
    """The parameters in an order that all classes share: stem, then each stage, then the final norm."""
    def key(name: str) -> tuple:
        parts = name.split(".")
        numbers = tuple(int(part) for part in parts if part.isdigit())
        last = parts[-1] == "bias"
        if "downsampl" in name or name.startswith(("stem", "embeddings")):
            if name.startswith("embeddings"):
                numbers = (int("layernorm" in name),)
            if name.startswith("model"):
                stage, part = numbers
            elif len(numbers) == 1:
                stage, part = 0, numbers[0]
            else:
                stage, part = numbers
            return (0, stage, 0, part, last)
        if name.startswith(("head", "layernorm", "layer_norm")):
            return (2, 0, 0, 0, last)
        kinds = (
            ("gamma", "layer_scale"),
            ("conv_dw", "dwconv", "depthwise"),
            ("norm",),
            ("fc1", "pwconv1", "pointwise_conv1"),
            ("fc2", "pwconv2", "pointwise_conv2"),
        )
        own = name.split(".", 4 if name.startswith("model") else 3)[-1]
        kind = next(i for i, words in enumerate(kinds) if any(word in own for word in words))
        return (1, numbers[0], numbers[1], kind, last)

    named = sorted(network.named_parameters(), key=lambda pair: key(pair[0]))
    return [tensor for _, tensor in named]


def copy(to: nn.Module, of: nn.Module) -> nn.Module:
    """Gives one network the values of another."""
    ours, theirs = in_order(to), in_order(of)
    assert len(ours) == len(theirs)
    with torch.no_grad():
        for a, b in zip(ours, theirs):
            assert a.numel() == b.numel(), (a.shape, b.shape)
            a.copy_(b.view(a.shape))
    return to.eval()


def of_timm(**rest: object) -> ConvNeXt:
    """timm's class at these sizes, without a classifier."""
    return ConvNeXt(depths=DEPTHS, dims=WIDTHS, num_classes=0, **rest)


def main() -> None:
    """Writes the folder."""
    torch.set_num_threads(2)
    torch.manual_seed(7)
    root = Path(sys.argv[1])
    root.mkdir(parents=True, exist_ok=True)
    network = enliven(of_timm(), 2).eval()
    save_file(network.state_dict(), root / "timm.safetensors")
    conv = copy(of_timm(conv_mlp=True), network)
    torch.save(conv.state_dict(), root / "timm-conv.pth")
    sizes = {"hidden_sizes": list(WIDTHS), "depths": list(DEPTHS)}
    hf = copy(ConvNextModel(ConvNextConfig(**sizes)), network)
    hf.save_pretrained(root / "hf")
    dinov3 = copy(DINOv3ConvNextModel(DINOv3ConvNextConfig(**sizes)), network)
    dinov3.save_pretrained(root / "dinov3")
    random = torch.Generator().manual_seed(3)
    found = {}
    for height, width in SIZES:
        image = torch.randn(1, 3, height, width, generator=random)
        size = f"{height}x{width}"
        found[f"image.{size}"] = image
        with torch.no_grad():
            features = network(image)
            tokens = dinov3(image).last_hidden_state
            for other in (conv(image), hf(image).pooler_output, tokens[:, 0]):
                assert torch.allclose(other, features, rtol=1e-4, atol=1e-5)
        found[f"features.{size}"] = features
        found[f"tokens.{size}"] = tokens
    # In double precision: the reference of a test is not to be less exact than what it tests.
    network.double().train()
    views = [torch.randn(b, 3, side, side, generator=random) for b, side in VIEWS]
    features = torch.cat([network(view.double()) for view in views])
    along = torch.randn(features.shape, generator=random)
    (features * along.double()).sum().backward()
    for i, view in enumerate(views):
        found[f"view.{i}"] = view
    found["along"] = along
    found["training.features"] = features.detach().float()
    for parameter, tensor in network.named_parameters():
        found[f"gradient.{parameter}"] = tensor.grad.float()
    save_file({k: v.contiguous() for k, v in found.items()}, root / "expected.safetensors")


if __name__ == "__main__":
    main()
