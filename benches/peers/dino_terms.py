"""KoLeo, Sinkhorn-Knopp and SIGReg beside DINO's loss in PyTorch, and the golden numbers from them.

    python dino_terms.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `dino`, whose README.md describes them. Initial weights,
crops and schedules are those of `training` in the same folder. PyTorch's automatic differentiation
computes every gradient, in double precision.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dino import clip_each, decays, dino_loss, follow
from lejepa import array, sigreg, single, summary, unit_directions, write_json
from model import HeadConfig, Network, VitConfig


def koleo(rows: Tensor, batch: int) -> Tensor:
    """Minus the mean logarithm of the distance to the nearest other image of the same view."""
    terms = []
    for view in F.normalize(rows, dim=-1).split(batch):
        if batch > 1:
            with torch.no_grad():
                distances = torch.cdist(view, view).fill_diagonal_(math.inf)
                nearest = distances.argmin(dim=1)
            apart = (view - view[nearest]).square().sum(dim=1)
            # The root of 0 has no slope; equal rows have no direction in which to part.
            distance = torch.where(apart > 0, apart, 1.0).sqrt() * (apart > 0)
            terms.append(-torch.log(distance + 1e-8).mean())
    return torch.stack(terms).mean() if terms else rows.sum() * 0.0


def sinkhorn(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """Targets `[R, K]` of logits `[R, K]` that use all prototypes alike."""
    q = torch.exp((logits - logits.max()) / temperature).T
    q = q / q.sum()
    prototypes, samples = q.shape
    for _ in range(iterations):
        q = q / q.sum(dim=1, keepdim=True) / prototypes
        q = q / q.sum(dim=0, keepdim=True) / samples
    return (q * samples).T


def golden_terms() -> dict:
    """Values and gradients on small cases."""
    random = torch.Generator().manual_seed(21)

    def draw(*shape: int) -> Tensor:
        return single(torch.randn(*shape, generator=random, dtype=torch.float64))

    row = draw(1, 6)
    near = row + 0.01 * draw(10, 6)
    inputs = {
        "general": (5, draw(10, 6)),
        "one_image": (1, draw(2, 6)),
        "close": (5, single(near)),
        "long": (5, single(30.0 * draw(10, 6))),
        "equal": (5, row.repeat(10, 1)),
    }
    cases = []
    for name, (batch, x) in inputs.items():
        x.requires_grad_()
        value = koleo(x, batch)
        (grad,) = torch.autograd.grad(value, x)
        assert grad.isfinite().all()
        cases.append({"name": name, "batch": batch, "x": array(x), "value": value.item(), "grad": array(grad)})
    targets = []
    for name, rows, prototypes, temperature in (
        ("general", 8, 5, 0.07),
        ("many_prototypes", 4, 40, 0.04),
        ("one_image", 2, 6, 0.1),
    ):
        logits = single(torch.tanh(draw(rows, prototypes)))
        found = sinkhorn(logits, temperature)
        case = {"name": name, "temperature": temperature, "logits": array(logits)}
        targets.append(case | {"targets": array(found)})
    return {"koleo": cases, "sinkhorn": targets}


def cosine(base: float, end: float, step: int, steps: int) -> float:
    """Half a cosine from `base` towards `end`."""
    return end + 0.5 * (base - end) * (1 + math.cos(math.pi * step / steps))


def golden_steps(inputs: dict[str, Tensor], reference: dict) -> dict:
    """Six steps with Sinkhorn-Knopp targets, KoLeo and SIGReg."""
    torch.set_default_dtype(torch.float64)
    said = reference["config"] | {"centering": "sinkhorn", "koleo_weight": 0.1, "sigreg_weight": 0.02}
    said |= {"sigreg_directions": 12, "momentum_teacher_end": 0.95}
    vit = VitConfig(
        said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
    )
    head = HeadConfig(said["out_dim"], said["head_hidden_dim"], said["bottleneck_dim"])
    student, teacher = Network(vit, head), Network(vit, head).requires_grad_(False)
    start = {k.removeprefix("init.student."): v.double() for k, v in inputs.items() if k.startswith("init.student.")}
    for network in (student, teacher):
        network.load_state_dict(start)
    named = [(n, p) for n, p in student.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    followers = [dict(teacher.named_parameters())[n] for n, _ in named]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decays(n, p)]},
            {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
        ],
        foreach=False,
    )
    random = torch.Generator().manual_seed(22)
    batch, steps = said["batch"], said["epochs"] * said["iters_per_epoch"]
    log = []
    for step, now in enumerate(reference["log"]):
        crops = [inputs[f"step{step}.crop{i}"].double() for i in range(2 + said["local_crops"])]
        views = [torch.cat(crops[:2]), torch.cat(crops[2:])]
        directions = single(unit_directions(said["sigreg_directions"], said["embed_dim"], random, crops[0]))
        momentum = cosine(said["momentum_teacher"], said["momentum_teacher_end"], step, steps)
        for group, decay in zip(optimiser.param_groups, (now["weight_decay"], 0.0)):
            group["lr"], group["weight_decay"] = now["lr"], decay
        with torch.no_grad():
            targets = sinkhorn(teacher(views[:1]), now["teacher_temp"])
        features = torch.cat([student.backbone(images) for images in views])
        cross_entropy = dino_loss(student.head(features), targets, batch, said["student_temp"])
        apart = koleo(features[: 2 * batch], batch)
        spread = sigreg(features.unflatten(0, (-1, batch)), directions)
        loss = cross_entropy + said["koleo_weight"] * apart + said["sigreg_weight"] * spread
        loss.backward()
        norms = [p.grad.norm().item() for p in parameters]
        with torch.no_grad():
            clip_each([p.grad for p in parameters], said["clip_grad"])
            if now["epoch"] < said["freeze_last_layer"]:
                for name, parameter in named:
                    if "last_layer" in name:
                        parameter.grad = None
            optimiser.step()
            follow(followers, parameters, momentum)
        optimiser.zero_grad(set_to_none=True)
        log.append(
            {
                "lr": now["lr"],
                "teacher_momentum": momentum,
                "teacher_temp": now["teacher_temp"],
                "directions": array(directions),
                "loss": loss.item(),
                "dino": cross_entropy.item(),
                "koleo": apart.item(),
                "sigreg": spread.item(),
                "grad_norms": norms,
            }
        )
        print(f"step {step}: loss {loss.item():.6f}, DINO {cross_entropy.item():.6f}, KoLeo {apart.item():.6f}, SIGReg {spread.item():.6f}")
    torch.set_default_dtype(torch.float32)
    final = {
        who: {n: summary(p.detach(), start[n]) for n, p in network.named_parameters()}
        for who, network in (("student", student), ("teacher", teacher))
    }
    return {"config": said, "log": log, "final": final}


def main() -> None:
    """Writes the fixtures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixtures", type=Path, help="tests/fixtures of dinolab-train")
    args = parser.parse_args()
    torch.set_num_threads(1)
    inputs = load_file(args.fixtures / "training" / "inputs.safetensors")
    reference = json.loads((args.fixtures / "training" / "adamw.json").read_text())
    folder = args.fixtures / "dino"
    folder.mkdir(exist_ok=True)
    write_json(folder / "terms.json", golden_terms())
    write_json(folder / "steps.json", golden_steps(inputs, reference))


if __name__ == "__main__":
    main()
