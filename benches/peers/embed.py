"""Times the forward pass of a backbone, images to features, in PyTorch."""

from __future__ import annotations

import argparse
import time
from typing import Callable

import torch
from torch import Tensor

import serving
from model import ARCHITECTURES, CONVOLUTIONAL, ConvolutionalConfig, Vit, VitConfig


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=(*ARCHITECTURES, *CONVOLUTIONAL), default="vit_small")
    parser.add_argument("--width", type=int, help="of a residual network; default: as published")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--crop", type=int, default=224, help="side of the images, in pixels")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--implementation", choices=("own", "timm"), default="own")
    serving.add_common(parser)
    return parser.parse_args()


def network(args: argparse.Namespace) -> Callable[[Tensor], Tensor]:
    """The network with random weights."""
    if args.arch in CONVOLUTIONAL:
        return ConvolutionalConfig(args.arch, other_width=args.width).network()
    if args.implementation == "own":
        return Vit(VitConfig.named(args.arch, args.patch_size, args.crop))
    from timm.models.vision_transformer import VisionTransformer

    width, heads = ARCHITECTURES[args.arch]
    return VisionTransformer(
        args.crop, args.patch_size, embed_dim=width, num_heads=heads, depth=12, num_classes=0
    )


def main() -> None:
    """Builds, warms up, measures."""
    args = arguments()
    device = serving.set_up(args)
    vit = network(args).to(device).eval()
    if args.mode == "compile":
        vit = torch.compile(vit)
    images = torch.randn(args.batch_size, 3, args.crop, args.crop, device=device)
    if args.arch in CONVOLUTIONAL:
        images = images.to(memory_format=torch.channels_last)
    half = args.precision == "bf16"

    @torch.inference_mode()
    def measure(steps: int) -> dict[str, float]:
        began = time.perf_counter()
        for _ in range(steps):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                vit(images)
        serving.settle(device)
        seconds = time.perf_counter() - began
        return {
            "ms": 1e3 * seconds / steps,
            "images_per_s": steps * args.batch_size / seconds,
            "peak_rss_mb": serving.peak_rss_mb(),
        }

    serving.run(measure, args)


if __name__ == "__main__":
    main()
