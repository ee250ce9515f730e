"""Repeats a recorded run of the reference and compares the losses and the final weights.

    python check.py PATH/train_adamw

reads `PATH/train_adamw.json` and `PATH/train_adamw.safetensors`.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from dino import Dino, StepConfig, StepValues
from model import HeadConfig, VitConfig

LOSS_TOLERANCE = 1e-4
WEIGHT_TOLERANCE = 1e-3


def main() -> None:
    """Runs all recorded steps; fails where one differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recorded", type=Path, metavar="FILE_STEM")
    parser.add_argument("--mode", choices=("eager", "compile"), default="eager")
    parser.add_argument("--adamw", choices=("fused", "foreach", "loop"), default="fused")
    args = parser.parse_args()
    record = json.loads(args.recorded.with_suffix(".json").read_text())
    tensors = load_file(args.recorded.with_suffix(".safetensors"))
    said = record["config"]
    config = StepConfig(
        vit=VitConfig(
            said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
        ),
        head=HeadConfig(
            said["out_dim"], said["head_hidden_dim"], said["bottleneck_dim"], said["norm_last_layer"]
        ),
        clip_grad=said["clip_grad"],
        student_temp=said["student_temp"],
        center_momentum=said["center_momentum"],
        adamw=args.adamw,
        compiled=args.mode == "compile",
    )
    dino = Dino(config, torch.device("cpu"))

    def under(prefix: str) -> dict[str, torch.Tensor]:
        return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

    start = under("init.student.")
    dino.student.load_state_dict(start)
    dino.teacher.load_state_dict(start)

    worst_loss = worst_centre = 0.0
    for step in record["log"]:
        crops = [tensors[f"step{step['step']}.crop{i}"] for i in range(2 + said["local_crops"])]
        views = [torch.cat(crops[:2]), torch.cat(crops[2:])]
        now = StepValues(
            lr=step["lr"],
            weight_decay=step["weight_decay"],
            momentum=step["teacher_momentum"],
            teacher_temp=step["teacher_temp"],
            freeze_last_layer=step["epoch"] < said["freeze_last_layer"],
        )
        loss = dino.step(views, now).item()
        centre = tensors[f"step{step['step']}.center_after"]
        worst_loss = max(worst_loss, abs(loss - step["loss"]))
        worst_centre = max(worst_centre, (dino.centre - centre).abs().max().item())
        print(f"step {step['step']}: loss {loss:.6f}, recorded {step['loss']:.6f}")

    def distance(network: torch.nn.Module, prefix: str) -> float:
        state = network.state_dict()
        return max((state[k] - v).abs().max().item() for k, v in under(prefix).items())

    worst_student = distance(dino.student, "final.student.")
    worst_teacher = distance(dino.teacher, "final.teacher.")
    print(
        f"largest differences: loss {worst_loss:.1e}, centre {worst_centre:.1e}, "
        f"student {worst_student:.1e}, teacher {worst_teacher:.1e}"
    )
    if worst_loss > LOSS_TOLERANCE or max(worst_centre, worst_student, worst_teacher) > WEIGHT_TOLERANCE:
        sys.exit("not the same computation")


if __name__ == "__main__":
    main()
