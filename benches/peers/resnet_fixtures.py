"""Makes the small residual networks that the tests of weight files and of training read.

    python resnet_fixtures.py ../../crates/dinolab-nn/tests/fixtures/resnet

The networks are of torchvision's blocks, narrower than its own. Each folder gets `model.pth`, a state
dictionary, and `expected.safetensors`: features of images of three sizes in evaluation, and, of the
network in training, the features of two sizes of views, the gradients of a sum of them with given
weights, and the running statistics afterwards.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18, resnet50
from torchvision.models.resnet import BasicBlock, Bottleneck, conv1x1

SIZES = ((48, 48), (50, 33), (33, 64))
VIEWS = ((3, 40), (5, 33))


class ResNet(nn.Module):
    """torchvision's network of any width, without its classifier."""

    def __init__(self, block, layers: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for i, count in enumerate(layers):
            planes, stride = width * 2**i, 1 if i == 0 else 2
            outputs = planes * block.expansion
            blocks = []
            for j in range(count):
                step = stride if j == 0 else 1
                shortcut = None
                if step > 1 or inputs != outputs:
                    shortcut = nn.Sequential(conv1x1(inputs, outputs, step), nn.BatchNorm2d(outputs))
                blocks.append(block(inputs, planes, step, shortcut))
                inputs = outputs
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images `[B, 3, H, W]` to features `[B, D]`."""
        x = nn.functional.max_pool2d(torch.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return x.mean((2, 3))


def enliven(network: nn.Module, seed: int) -> nn.Module:
    """Gives every scale, shift and running statistic a value of its own."""
    random = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                with torch.no_grad():
                    tensor.uniform_(low, high, generator=random)
    return network


def same_as_torchvision() -> None:
    """Checks this network against torchvision's at their size."""
    for make, block, layers in (
        (resnet18, BasicBlock, (2, 2, 2, 2)),
        (resnet50, Bottleneck, (3, 4, 6, 3)),
    ):
        theirs = enliven(make(weights=None), 1).eval()
        theirs.fc = nn.Identity()
        ours = ResNet(block, layers, 64).eval()
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(2, 3, 96, 70)
        with torch.no_grad():
            assert torch.allclose(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def main() -> None:
    """Writes both folders."""
    torch.set_num_threads(2)
    same_as_torchvision()
    root = Path(sys.argv[1])
    for name, block, layers in (
        ("basic", BasicBlock, (1, 2, 1, 1)),
        ("bottleneck", Bottleneck, (2, 1, 1, 1)),
    ):
        torch.manual_seed(7)
        network = enliven(ResNet(block, layers, 4), 2)
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(network.state_dict(), folder / "model.pth")
        random = torch.Generator().manual_seed(3)
        found = {}
        network.eval()
        for height, width in SIZES:
            image = torch.randn(1, 3, height, width, generator=random)
            found[f"image.{height}x{width}"] = image
            with torch.no_grad():
                found[f"features.{height}x{width}"] = network(image)
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
        for buffer, tensor in network.named_buffers():
            if "running" in buffer:
                found[f"after.{buffer}"] = tensor.float()
        save_file({k: v.contiguous() for k, v in found.items()}, folder / "expected.safetensors")


if __name__ == "__main__":
    main()
