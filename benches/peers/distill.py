"""Distillation in PyTorch, derived from the formulas alone, and the golden numbers from it.

    python distill.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `distill`, whose README.md describes them. The student's initial
weights, the crops and the schedules come from `training` in the same folder. PyTorch's automatic differentiation
computes every gradient, in double precision; its antialiased interpolation resizes images and grids.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dino import clip_each, decays, follow
from dinov2 import MaskedVit
from joint_embedding import fixtures_folder, summary, write_json
from model import VitConfig

JOINED = 2
"""Recorded steps whose crops make one batch."""
TEACHER = VitConfig(image_size=60, patch_size=10, width=40, heads=2, depth=2)
"""Its patches are no divisor of the crops' 64 pixels, and its grid is not the student's."""
SETTINGS = {
    "teacher_feature_weight": 0.7,
    "teacher_patch_weight": 1.2,
    "head_hidden_dim": 24,
    "head_layers": 2,
    "average_momentum": 0.9,
    "teacher_mean": [0.5, 0.45, 0.4],
    "teacher_std": [0.2, 0.25, 0.3],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}


class Student(nn.Module):
    """Backbone and the predictions of a teacher's feature and patches."""

    def __init__(self, vit: VitConfig, hidden: int, out: int) -> None:
        super().__init__()
        self.backbone = MaskedVit(vit)
        del self.backbone.mask_token

        def mlp() -> nn.ModuleDict:
            layers = nn.Sequential(nn.Linear(vit.width, hidden), nn.GELU(), nn.Linear(hidden, out))
            return nn.ModuleDict({"mlp": layers})

        self.head = nn.ModuleDict({"feature": mlp(), "patches": mlp()})


class Standard:
    """Mean and variance over all steps so far, of targets `[R, F]`."""

    def __init__(self) -> None:
        self.means: list[Tensor] = []
        self.squares: list[Tensor] = []

    def __call__(self, x: Tensor) -> Tensor:
        self.means.append(x.mean(dim=0))
        self.squares.append(x.square().mean(dim=0))
        mean = torch.stack(self.means).mean(dim=0)
        variance = torch.stack(self.squares).mean(dim=0) - mean.square()
        return (x - mean) / torch.sqrt(variance + 1e-6)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """`[B, C, H, W]` at another size."""
    return F.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)


def golden_steps(inputs: dict[str, Tensor], reference: dict, initial: dict[str, Tensor], feature: str) -> dict:
    """Six steps. `feature` is what the teacher's and the student's feature is: `class` or `both`."""
    torch.set_default_dtype(torch.float64)
    said = reference["config"] | SETTINGS | {"joined_steps": JOINED, "feature": feature}
    vit = VitConfig(
        said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
    )
    teacher = MaskedVit(TEACHER)
    del teacher.mask_token
    own = lambda prefix: {  # noqa: E731
        k.removeprefix(prefix): v.double() for k, v in initial.items() if k.startswith(prefix)
    }
    teacher.load_state_dict(own("teacher."))
    student = Student(vit, said["head_hidden_dim"], TEACHER.width)
    start = {
        k.removeprefix("init.student."): v.double()
        for k, v in inputs.items()
        if k.startswith("init.student.backbone.")
    } | own("student.")
    if feature == "both":
        # The same head once more for the other half.
        for name in ("head.feature.mlp.0.weight", "head.feature.mlp.2.weight", "head.feature.mlp.2.bias"):
            start[name] = torch.cat([start[name]] * 2, dim=1 if name.endswith("0.weight") else 0)
        layers = student.head["feature"]["mlp"]
        layers[0] = nn.Linear(2 * vit.width, said["head_hidden_dim"])
        layers[2] = nn.Linear(said["head_hidden_dim"], 2 * TEACHER.width)
    student.load_state_dict(start)
    average = {name: value.clone() for name, value in student.backbone.state_dict().items()}
    named = list(student.named_parameters())
    parameters = [p for _, p in named]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decays(n, p)]},
            {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
        ],
        foreach=False,
    )

    def feature_of(tokens: Tensor) -> Tensor:
        parts = [tokens[:, 0]] + ([tokens[:, 1:].mean(dim=1)] if feature == "both" else [])
        return torch.cat(parts, dim=1)

    channel = lambda name: torch.tensor(said[name]).view(1, 3, 1, 1)  # noqa: E731
    standards = {"feature": Standard(), "patches": Standard()}
    side, grid = said["global_size"] // said["patch_size"], TEACHER.image_size // TEACHER.patch_size
    log, of_log = [], reference["log"]
    for step, now in enumerate(of_log):
        joined = [(step + i) % len(of_log) for i in range(JOINED)]
        crops = [torch.cat([inputs[f"step{s}.crop{i}"].double() for s in joined]) for i in range(2)]
        views = torch.cat(crops)
        for group, decay in zip(optimiser.param_groups, (now["weight_decay"], 0.0)):
            group["lr"], group["weight_decay"] = now["lr"], decay
        with torch.no_grad():
            pixels = views * channel("std") + channel("mean")
            shown = resized((pixels - channel("teacher_mean")) / channel("teacher_std"), (60, 60))
            taught = teacher.tokens(shown)
            patches = taught[:, 1:].transpose(1, 2).unflatten(2, (grid, grid))
            patches = resized(patches, (side, side)).flatten(2).transpose(1, 2)
            of_feature = standards["feature"](feature_of(taught))
            of_patches = standards["patches"](patches.flatten(0, 1))
        tokens = student.backbone.tokens(views)
        predicted = student.head["feature"]["mlp"](feature_of(tokens))
        predicted_patches = student.head["patches"]["mlp"](tokens[:, 1:].flatten(0, 1))
        terms = {
            "feature": (predicted - of_feature).square().mean(),
            "patches": (predicted_patches - of_patches).square().mean(),
        }
        loss = said["teacher_feature_weight"] * terms["feature"] + said["teacher_patch_weight"] * terms["patches"]
        loss.backward()
        norms = [p.grad.norm().item() for p in parameters]
        with torch.no_grad():
            clip_each([p.grad for p in parameters], said["clip_grad"])
            optimiser.step()
            follow(list(average.values()), list(student.backbone.parameters()), said["average_momentum"])
        optimiser.zero_grad(set_to_none=True)
        figures = {name: value.item() for name, value in ({"loss": loss} | terms).items()}
        print(f"{feature}, step {step}: {figures}")
        log.append({"lr": now["lr"]} | figures | {"grad_norms": norms})
    torch.set_default_dtype(torch.float32)
    final = {
        "network": {n: summary(p.detach(), start[n]) for n, p in student.named_parameters()},
        "average": {f"backbone.{n}": summary(p, start[f"backbone.{n}"]) for n, p in average.items()},
    }
    return {"config": said, "names": [name for name, _ in named], "log": log, "final": final}


def initial() -> dict[str, Tensor]:
    """A teacher with features of many scales, and the student's projections."""
    random = torch.Generator().manual_seed(51)
    teacher = MaskedVit(TEACHER)
    del teacher.mask_token
    width = VitConfig(64, 16, 48, 3).width
    student = Student(VitConfig(64, 16, width, 3, 1), SETTINGS["head_hidden_dim"], TEACHER.width)
    tensors = {f"teacher.{name}": tensor for name, tensor in teacher.state_dict().items()}
    tensors |= {
        f"student.{name}": tensor for name, tensor in student.state_dict().items() if name.startswith("head.")
    }

    def drawn(name: str, tensor: Tensor) -> Tensor:
        noise = 0.2 * torch.randn(tensor.shape, generator=random)
        if name == "teacher.norm.weight":
            return torch.exp(8.0 * noise)
        return noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0)

    return {name: drawn(name, tensor).contiguous() for name, tensor in tensors.items()}


def main() -> None:
    """Writes the fixtures."""
    fixtures, folder = fixtures_folder(__doc__, "distill")
    inputs = load_file(fixtures / "training" / "inputs.safetensors")
    reference = json.loads((fixtures / "training" / "adamw.json").read_text())
    start = initial()
    save_file(start, Path(folder) / "initial.safetensors")
    for feature in ("class", "both"):
        write_json(folder / f"{feature}.json", golden_steps(inputs, reference, start, feature))


if __name__ == "__main__":
    main()
