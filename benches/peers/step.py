"""Times full training steps in PyTorch, of DINO, LeJEPA or VISReg, on random images that are made once."""

from __future__ import annotations

import argparse
import time
from functools import partial

import torch
from torch.optim import _muon

import lejepa
import muon
import serving
import visreg
from dino import Dino, StepConfig, StepValues
from joint_embedding import Learner, LearnerConfig, ProjectionConfig
from model import ARCHITECTURES, CONVOLUTIONAL, ConvolutionalConfig, HeadConfig, VitConfig

HEADS = {"dino": (4096, 2048), "lejepa": (64, 512), "visreg": (64, 512)}
"""Default output and hidden width of the head, by method."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--method", choices=tuple(HEADS), default="dino")
    parser.add_argument("--arch", choices=(*ARCHITECTURES, *CONVOLUTIONAL), default="vit_small")
    parser.add_argument("--width", type=int, help="of a residual network; default: as published")
    parser.add_argument("--patch-size", type=int, default=16)
    parser.add_argument("--stem", choices=("patchify", "conv"), default="patchify")
    parser.add_argument("--registers", type=int, default=0)
    parser.add_argument("--layer-scale", type=serving.boolean, default=False)
    parser.add_argument("--ffn", choices=("mlp", "swiglu"), default="mlp")
    parser.add_argument("--positions", choices=("learned", "rope"), default="learned")
    parser.add_argument("--global-crops-size", type=int, default=224)
    parser.add_argument("--local-crops-size", type=int, default=96)
    parser.add_argument("--local-crops-number", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--out-dim", type=int, help="default: dino: 4096, others: 64")
    parser.add_argument("--head-hidden-dim", type=int, help="default: dino: 2048, others: 512")
    parser.add_argument("--head-bottleneck-dim", type=int, default=256, help="dino only")
    parser.add_argument("--drop-path-rate", type=float, default=0.1)
    parser.add_argument("--clip-grad", type=float, default=3.0, help="0: no clipping")
    parser.add_argument("--norm-last-layer", type=serving.boolean, default=True, help="dino only")
    parser.add_argument("--sigreg-weight", type=float, default=0.05, help="lejepa only")
    parser.add_argument("--visreg-weight", type=float, default=0.6, help="visreg only")
    parser.add_argument("--directions", type=int, default=256, help="lejepa and visreg only")
    parser.add_argument("--muon-precision", choices=("f32", "bf16"), default="f32", help="bf16: as PyTorch has it")
    optimisers = ("adamw", "muon")
    parser.add_argument("--optimizer", choices=optimisers, default="adamw", help="muon: lejepa, visreg")
    parser.add_argument("--adamw", choices=("fused", "foreach", "loop"), default="fused")
    serving.add_common(parser)
    args = parser.parse_args()
    out_dim, hidden_dim = HEADS[args.method]
    if args.out_dim is None:
        args.out_dim = out_dim
    if args.head_hidden_dim is None:
        args.head_hidden_dim = hidden_dim
    if args.optimizer == "muon" and args.method == "dino":
        parser.error("--optimizer muon is for lejepa and visreg")
    return args


def learner(args: argparse.Namespace, device: torch.device) -> Dino | Learner:
    """Returns the method with its networks and optimiser."""
    if args.arch in CONVOLUTIONAL:
        vit = ConvolutionalConfig(args.arch, args.drop_path_rate, args.width)
    else:
        size = args.global_crops_size
        variant = {
            "conv_stem": args.stem == "conv",
            "registers": args.registers,
            "layer_scale": args.layer_scale,
            "swiglu": args.ffn == "swiglu",
            "rope": args.positions == "rope",
        }
        vit = VitConfig.named(args.arch, args.patch_size, size, args.drop_path_rate, **variant)
    common = {
        "clip_grad": args.clip_grad,
        "adamw": args.adamw,
        "precision": args.precision,
        "compiled": args.mode == "compile",
    }
    losses = {
        "lejepa": partial(lejepa.objective, weight=args.sigreg_weight),
        "visreg": partial(visreg.objective, weight=args.visreg_weight),
    }
    if args.method in losses:
        head = ProjectionConfig(args.out_dim, args.head_hidden_dim)
        config = LearnerConfig(vit, head, args.directions, muon=args.optimizer == "muon", **common)
        return Learner(config, losses[args.method], device)
    head = HeadConfig(args.out_dim, args.head_hidden_dim, args.head_bottleneck_dim, args.norm_last_layer)
    return Dino(StepConfig(vit, head, **common), device)


def main() -> None:
    """Builds, warms up, measures."""
    args = arguments()
    device = serving.set_up(args)
    if args.muon_precision == "f32":
        _muon._zeropower_via_newtonschulz = muon.in_single
    trained = learner(args, device)
    batch = args.batch_size
    values = StepValues()
    if isinstance(trained, Learner):
        values = StepValues(weight_decay=0.05, momentum=0.98)
    views = [torch.randn(2 * batch, 3, args.global_crops_size, args.global_crops_size, device=device)]
    if args.local_crops_number > 0:
        side, count = args.local_crops_size, args.local_crops_number * batch
        views.append(torch.randn(count, 3, side, side, device=device))

    if args.arch in CONVOLUTIONAL:
        views = [view.to(memory_format=torch.channels_last) for view in views]

    def measure(steps: int) -> dict[str, float]:
        teacher = 0.0

        def after_teacher() -> None:
            nonlocal teacher
            serving.settle(device)
            teacher += time.perf_counter() - began

        first = time.perf_counter()
        for _ in range(steps):
            began = time.perf_counter()
            if isinstance(trained, Dino):
                loss = trained.step(views, values, after_teacher)
            else:
                loss = trained.step(views, values)
        loss = loss.item()
        serving.settle(device)
        total = time.perf_counter() - first
        figures = {"ms": 1e3 * total / steps, "loss": loss, "peak_rss_mb": serving.peak_rss_mb()}
        if isinstance(trained, Dino):
            figures["ms_teacher"] = 1e3 * teacher / steps
        return figures

    serving.run(measure, args)


if __name__ == "__main__":
    main()
