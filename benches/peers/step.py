"""Times full DINO training steps in PyTorch, on random images that are made once."""

from __future__ import annotations

import argparse
import time

import torch

import serving
from dino import Dino, StepConfig, StepValues
from model import ARCHITECTURES, HeadConfig, VitConfig


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=tuple(ARCHITECTURES), default="vit_small")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--global-crops-size", type=int, default=224)
    parser.add_argument("--local-crops-size", type=int, default=96)
    parser.add_argument("--local-crops-number", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out-dim", type=int, default=4096)
    parser.add_argument("--head-hidden-dim", type=int, default=2048)
    parser.add_argument("--head-bottleneck-dim", type=int, default=256)
    parser.add_argument("--drop-path-rate", type=float, default=0.1)
    parser.add_argument("--clip-grad", type=float, default=3.0, help="0: no clipping")
    parser.add_argument("--norm-last-layer", type=serving.boolean, default=True)
    parser.add_argument("--adamw", choices=("fused", "foreach", "loop"), default="fused")
    serving.add_common(parser)
    return parser.parse_args()


def main() -> None:
    """Builds, warms up, measures."""
    args = arguments()
    device = serving.set_up(args)
    config = StepConfig(
        vit=VitConfig.named(args.arch, args.patch_size, args.global_crops_size, args.drop_path_rate),
        head=HeadConfig(
            args.out_dim, args.head_hidden_dim, args.head_bottleneck_dim, args.norm_last_layer
        ),
        clip_grad=args.clip_grad,
        adamw=args.adamw,
        precision=args.precision,
        compiled=args.mode == "compile",
    )
    dino = Dino(config, device)
    batch, values = args.batch_size, StepValues()
    views = [torch.randn(2 * batch, 3, args.global_crops_size, args.global_crops_size, device=device)]
    if args.local_crops_number > 0:
        side, count = args.local_crops_size, args.local_crops_number * batch
        views.append(torch.randn(count, 3, side, side, device=device))

    def measure(steps: int) -> dict[str, float]:
        teacher = 0.0

        def after_teacher() -> None:
            nonlocal teacher
            serving.settle(device)
            teacher += time.perf_counter() - began

        first = time.perf_counter()
        for _ in range(steps):
            began = time.perf_counter()
            loss = dino.step(views, values, after_teacher)
        loss = loss.item()
        serving.settle(device)
        total = time.perf_counter() - first
        return {
            "ms": 1e3 * total / steps,
            "ms_teacher": 1e3 * teacher / steps,
            "loss": loss,
            "peak_rss_mb": serving.peak_rss_mb(),
        }

    serving.run(measure, args)


if __name__ == "__main__":
    main()
