"""LeJEPA with SIGReg in PyTorch, derived from the formulas alone, and the golden numbers from it.

    python lejepa.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `lejepa`, whose README.md describes them. The
backbone's initial weights and the crops come from `training/inputs.safetensors` in the same folder.
PyTorch's automatic differentiation computes every gradient.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Sequence

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dino import StepValues, clip_each, decays, follow
from model import Vit, VitConfig, init_linear

GLOBAL_VIEWS = 2
KNOTS = 17
LAST_KNOT = 3.0
BATCH_NORM_EPS = 1e-5


# The objective.


@dataclass(frozen=True)
class Objective:
    """The loss and its two parts, all scalars."""

    loss: Tensor
    invariance: Tensor
    sigreg: Tensor


def invariance(views: Tensor) -> Tensor:
    """Mean squared distance of `[V, B, d]` to each image's mean over its global views."""
    centre = views[:GLOBAL_VIEWS].mean(dim=0)
    return (views - centre).square().mean()


def sigreg(views: Tensor, directions: Tensor) -> Tensor:
    """How far the projections of each view of `[V, B, d]` on `[S, d]` are from a standard normal.

    The statistic of Epps and Pulley: the weighted squared distance between the empirical
    characteristic function and that of the normal, times the number of samples. Mean over views
    and directions.
    """
    batch = views.shape[1]
    knots = torch.linspace(0.0, LAST_KNOT, KNOTS, dtype=torch.float64).to(views)
    normal = torch.exp(-knots.square() / 2)
    # exp(−t²/2) is the characteristic function and the weight.
    weight = normal
    angles = (views @ directions.T).unsqueeze(-1) * knots  # [V, B, S, T]
    real = torch.cos(angles).mean(dim=1)
    imaginary = torch.sin(angles).mean(dim=1)
    distance = weight * ((real - normal).square() + imaginary.square())  # [V, S, T]
    # The integrand is even: twice the integral over the positive half.
    return (batch * 2.0 * torch.trapezoid(distance, knots, dim=-1)).mean()


def objective(outputs: Tensor, batch: int, directions: Tensor, weight: float) -> Objective:
    """`(1 − weight) · invariance + weight · SIGReg` of `[V·B, d]`, view-major, global views first."""
    views = outputs.unflatten(0, (-1, batch))
    pull, spread = invariance(views), sigreg(views, directions)
    return Objective((1.0 - weight) * pull + weight * spread, pull, spread)


# The network.


@dataclass(frozen=True)
class ProjectionConfig:
    """Sizes of a projection head."""

    out_dim: int = 64
    hidden_dim: int = 512


class BatchNorm(nn.Module):
    """Normalises each column by the mean and the biased variance of all rows of the batch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        x = x.to(self.weight.dtype)  # Statistics in full precision, also of bf16 rows.
        centred = x - x.mean(dim=0)
        variance = centred.square().mean(dim=0)
        return centred / torch.sqrt(variance + BATCH_NORM_EPS) * self.weight + self.bias


class Projection(nn.Module):
    """The head: class tokens `[V·B, D]` of all views together to outputs `[V·B, d]`."""

    def __init__(self, width: int, config: ProjectionConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.mlp = nn.Sequential(
            init_linear(nn.Linear(width, hidden)),
            BatchNorm(hidden),
            nn.GELU(),
            init_linear(nn.Linear(hidden, hidden)),
            BatchNorm(hidden),
            nn.GELU(),
            init_linear(nn.Linear(hidden, config.out_dim)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class LejepaNetwork(nn.Module):
    """Backbone and projection head. Views of one size go through the backbone together."""

    def __init__(self, vit: VitConfig, head: ProjectionConfig) -> None:
        super().__init__()
        self.backbone = Vit(vit)
        self.head = Projection(vit.width, head)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Outputs of all views, in order; one tensor of `views` per size."""
        return self.head(torch.cat([self.backbone(images) for images in views]))


# The training step.


@dataclass(frozen=True)
class LejepaConfig:
    """What stays the same from step to step."""

    vit: VitConfig
    head: ProjectionConfig
    sigreg_weight: float = 0.05
    directions: int = 256
    clip_grad: float = 3.0
    adamw: str = "fused"
    """`fused`, `foreach` or `loop`."""
    precision: str = "f32"
    compiled: bool = False


def unit_directions(count: int, width: int, random: torch.Generator | None, like: Tensor) -> Tensor:
    """Uniformly distributed unit vectors `[count, width]`."""
    drawn = torch.randn(count, width, generator=random, dtype=like.dtype, device=like.device)
    return F.normalize(drawn, dim=-1)


class Lejepa:
    """Network, average and optimiser."""

    def __init__(self, config: LejepaConfig, device: torch.device) -> None:
        self.config = config
        self.network = LejepaNetwork(config.vit, config.head).to(device)
        # The average starts as a copy.
        average_vit = replace(config.vit, drop_path_rate=0.0)
        self.average = LejepaNetwork(average_vit, config.head).to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.objective: Objective | None = None
        """That of the last step."""
        self.grad_norms: list[Tensor] = []
        """Norms of the last step's gradients before clipping, where they were asked for."""

        named = list(self.network.named_parameters())
        self.parameters = [p for _, p in named]
        self.followers = list(self.average.parameters())
        kind = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for n, p in named if decays(n, p)]},
                {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.999),
            eps=1e-8,
            **kind[config.adamw],
        )
        wrap: Callable = torch.compile if config.compiled else (lambda function: function)
        self.learn = wrap(self._learn)

    def _learn(self, views: Sequence[Tensor], directions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss, invariance and SIGReg of all views."""
        half = self.config.precision == "bf16"
        with torch.autocast(views[0].device.type, dtype=torch.bfloat16, enabled=half):
            outputs = self.network(views)
        # The objective keeps the full precision.
        outputs = outputs.to(directions.dtype)
        batch = views[0].shape[0] // GLOBAL_VIEWS
        found = objective(outputs, batch, directions, self.config.sigreg_weight)
        return found.loss, found.invariance, found.sigreg

    def step(
        self,
        views: Sequence[Tensor],
        now: StepValues,
        directions: Tensor | None = None,
        record_norms: bool = False,
    ) -> Tensor:
        """One step on `views`: `[2·B, 3, G, G]` and `[L·B, 3, S, S]`, view-major. Returns the loss.

        Draws new directions unless they are given.
        """
        for group, decay in zip(self.optimiser.param_groups, (now.weight_decay, 0.0)):
            group["lr"], group["weight_decay"] = now.lr, decay
        if directions is None:
            directions = unit_directions(
                self.config.directions, self.config.head.out_dim, None, self.parameters[0]
            )
        loss, pull, spread = self.learn(views, directions)
        loss.backward()
        self.objective = Objective(loss.detach(), pull.detach(), spread.detach())
        with torch.no_grad():
            grads = [p.grad for p in self.parameters]
            if record_norms:
                self.grad_norms = [g.norm() for g in grads]
            if self.config.clip_grad > 0:
                clip_each(grads, self.config.clip_grad)
            self.optimiser.step()
            follow(self.followers, self.parameters, now.momentum)
        self.optimiser.zero_grad(set_to_none=True)
        return self.objective.loss


# The golden numbers.


def array(tensor: Tensor) -> dict[str, list]:
    """A tensor for JSON, row-major, with all its digits."""
    return {"shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}


def single(tensor: Tensor) -> Tensor:
    """The values that single precision can hold, in double precision."""
    return tensor.float().double()


def golden_objective() -> dict:
    """The objective's values and its gradient on small cases, in double precision."""
    random = torch.Generator().manual_seed(11)
    views, batch, width, count, weight = 4, 5, 6, 7, 0.05

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    row = draw(1, width)
    inputs = {
        # Off the standard normal in scale and mean.
        "general": (batch, 1.5 * draw(views * batch, width) + 0.3),
        "one_image": (1, draw(views, width)),
        "equal_rows": (batch, row.expand(views * batch, -1)),
        "zero_rows": (batch, torch.zeros(views * batch, width)),
        # The largest angles are some hundreds.
        "far_rows": (batch, 40.0 * draw(views * batch, width)),
    }
    cases = []
    for name, (images, z) in inputs.items():
        directions = single(unit_directions(count, width, random, draw(1)))
        z = single(z).requires_grad_()
        found = objective(z, images, directions, weight)
        (grad,) = torch.autograd.grad(found.loss, z)
        assert torch.autograd.gradcheck(lambda z: objective(z, images, directions, weight).loss, z)
        assert grad.isfinite().all()
        cases.append(
            {
                "name": name,
                "views": views,
                "batch": images,
                "sigreg_weight": weight,
                "z": array(z),
                "directions": array(directions),
                "loss": found.loss.item(),
                "invariance": found.invariance.item(),
                "sigreg": found.sigreg.item(),
                "grad": array(grad),
            }
        )
    return {"cases": cases}


def enliven(head: Projection, random: torch.Generator) -> None:
    """Gives every parameter a value of its own, so that each one matters to the result."""
    for name, parameter in head.named_parameters():
        drawn = torch.randn(parameter.shape, generator=random, dtype=torch.float64)
        if parameter.ndim > 1:
            drawn /= math.sqrt(parameter.shape[1])
        elif name in ("mlp.1.weight", "mlp.4.weight"):
            drawn = 1.0 + 0.2 * drawn
        else:
            drawn *= 0.2
        parameter.data = single(drawn).to(parameter)


def golden_head() -> dict:
    """The head's outputs and the gradients of a weighted sum of them, in double precision."""
    random = torch.Generator().manual_seed(12)
    width, hidden, out, rows = 8, 10, 6, 20
    head = Projection(width, ProjectionConfig(out, hidden)).double()
    enliven(head, random)

    def draw(*shape: int) -> Tensor:
        return single(torch.randn(*shape, generator=random, dtype=torch.float64))

    equal = draw(1, width)
    inputs = {"general": draw(rows, width), "one_row": draw(1, width), "equal_rows": equal.repeat(rows, 1)}
    cases = []
    for name, x in inputs.items():
        x.requires_grad_()
        weights = draw(len(x), out)
        outputs = head(x)
        if len(x) > 1:
            bn = head.mlp[1]
            hidden_rows = head.mlp[0](x)
            library = F.batch_norm(
                hidden_rows, None, None, bn.weight, bn.bias, training=True, eps=BATCH_NORM_EPS
            )
            assert torch.allclose(bn(hidden_rows), library, rtol=1e-9, atol=1e-12)
        named = dict(head.named_parameters())
        x_grad, *grads = torch.autograd.grad((outputs * weights).sum(), [x, *named.values()])
        assert all(g.isfinite().all() for g in (x_grad, *grads))
        cases.append(
            {
                "name": name,
                "input": array(x),
                "output": array(outputs),
                "loss_weights": array(weights),
                "loss": (outputs * weights).sum().item(),
                "input_grad": array(x_grad),
                "grads": {f"head.{n}": array(g) for n, g in zip(named, grads)},
            }
        )
    parameters = {f"head.{n}": array(p) for n, p in head.named_parameters()}
    return {"width": width, "hidden_dim": hidden, "out_dim": out, "parameters": parameters, "cases": cases}


def rates(steps: int, total: int, warmup: int, base: float, last: float) -> list[float]:
    """Learning rates: `warmup` from 0 to `base`, both included, then half a cosine to `last`."""
    rising = [base * i / (warmup - 1) for i in range(warmup)]
    falling = total - warmup
    cosine = [
        last + 0.5 * (base - last) * (1 + math.cos(math.pi * i / falling)) for i in range(falling)
    ]
    return (rising + cosine)[:steps]


def summary(tensor: Tensor, start: Tensor) -> dict[str, float]:
    """What tells a tensor and its change since `start` from others without storing all values."""
    change = (tensor - start).flatten()
    pattern = torch.cos(torch.arange(1, len(change) + 1, dtype=torch.float64))
    return {
        "sum": tensor.sum().item(),
        "norm": tensor.norm().item(),
        "change_norm": change.norm().item(),
        "change_cos": (change @ pattern).item(),
    }


@dataclass
class Run:
    """Six steps: the log, and the initial and the final tensors by name."""

    log: list[dict]
    outputs: Tensor
    """The head's outputs in the first step."""
    start: dict[str, Tensor]
    network: dict[str, Tensor]
    average: dict[str, Tensor]


STORED = (
    "backbone.cls_token",
    "backbone.pos_embed",
    "backbone.patch_embed.proj.bias",
    "backbone.blocks.0.norm1.weight",
    "backbone.blocks.1.mlp.fc1.bias",
    "backbone.blocks.2.attn.proj.bias",
    "backbone.norm.weight",
    "head.mlp.0.weight",
    "head.mlp.1.weight",
    "head.mlp.1.bias",
    "head.mlp.3.weight",
    "head.mlp.4.weight",
    "head.mlp.4.bias",
    "head.mlp.6.weight",
    "head.mlp.6.bias",
)
"""The tensors whose final values are stored."""

WITHOUT_GRADIENT = ("backbone.norm.bias", "head.mlp.0.bias", "head.mlp.3.bias")
"""Batch normalisation removes what these add: their gradients are rounding errors."""


def six_steps(inputs: dict[str, Tensor], given: dict[str, Tensor], said: dict, dtype: torch.dtype) -> Run:
    """Trains on the recorded crops."""
    config = LejepaConfig(
        vit=VitConfig(
            said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
        ),
        head=ProjectionConfig(said["out_dim"], said["head_hidden_dim"]),
        sigreg_weight=said["sigreg_weight"],
        clip_grad=said["clip_grad"],
        adamw="loop",
    )
    torch.set_default_dtype(dtype)
    learner = Lejepa(config, torch.device("cpu"))
    start = {
        k.removeprefix("init.student."): v
        for k, v in inputs.items()
        if k.startswith("init.student.backbone.")
    }
    start |= {k.removeprefix("init."): v for k, v in given.items() if k.startswith("init.head.")}
    for network in (learner.network, learner.average):
        network.load_state_dict({k: v.to(dtype) for k, v in start.items()})
    log = []
    views = said["global_crops"] + said["local_crops"]
    for step, lr in enumerate(said["lr"]):
        crops = [inputs[f"step{step}.crop{i}"].to(dtype) for i in range(views)]
        batches = [torch.cat(crops[:GLOBAL_VIEWS]), torch.cat(crops[GLOBAL_VIEWS:])]
        if step == 0:
            with torch.no_grad():
                outputs = learner.network(batches)
        now = StepValues(lr, said["weight_decay"], said["average_momentum"])
        learner.step(batches, now, given[f"step{step}.directions"].to(dtype), record_norms=True)
        found = learner.objective
        log.append(
            {
                "step": step,
                "lr": lr,
                "loss": found.loss.item(),
                "invariance": found.invariance.item(),
                "sigreg": found.sigreg.item(),
                "grad_norms": [n.item() for n in learner.grad_norms],
            }
        )
    torch.set_default_dtype(torch.float32)

    def state(network: nn.Module) -> dict[str, Tensor]:
        return {k: v.detach().double() for k, v in network.state_dict().items()}

    start = {k: v.double() for k, v in start.items()}
    return Run(log, outputs, start, state(learner.network), state(learner.average))


def golden_steps(inputs: dict[str, Tensor], reference: dict) -> tuple[dict, dict[str, Tensor], Run, Run]:
    """The configuration and log of six steps, the tensors, and the runs in double and single."""
    said = {k: reference[k] for k in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "batch")}
    said |= {"global_crops": GLOBAL_VIEWS, "local_crops": reference["local_crops"]}
    said |= {"out_dim": 16, "head_hidden_dim": 32, "directions": 24, "sigreg_weight": 0.05}
    said |= {"base_lr": 1e-3, "min_lr": 1e-6, "epochs": 3, "iters_per_epoch": 3, "warmup_epochs": 1}
    said |= {"weight_decay": 0.05, "average_momentum": 0.98, "clip_grad": 3.0}
    said["lr"] = rates(6, 9, 3, said["base_lr"], said["min_lr"])
    random = torch.Generator().manual_seed(13)
    head = Projection(said["embed_dim"], ProjectionConfig(said["out_dim"], said["head_hidden_dim"]))
    enliven(head, random)
    given = {f"init.head.{n}": p.detach().clone() for n, p in head.named_parameters()}
    like = torch.zeros(0, dtype=torch.float64)
    for step in range(len(said["lr"])):
        drawn = unit_directions(said["directions"], said["out_dim"], random, like)
        given[f"step{step}.directions"] = drawn.float()
    double = six_steps(inputs, given, said, torch.float64)
    rough = six_steps(inputs, given, said, torch.float32)
    names = list(double.network)
    record = {
        "config": said,
        "names": names,
        "without_gradient": list(WITHOUT_GRADIENT),
        "log": double.log,
        "final": {
            who: {n: summary(state[n], double.start[n]) for n in names}
            for who, state in (("network", double.network), ("average", double.average))
        },
    }
    tensors = given | {"step0.outputs": double.outputs.float()}
    for name in STORED:
        tensors[f"final.network.{name}"] = double.network[name].float()
        tensors[f"final.average.{name}"] = double.average[name].float()
    return record, tensors, double, rough


def report(double: Run, rough: Run) -> None:
    """Prints the log, and how far the run in single precision is from it."""
    for exact, other in zip(double.log, rough.log):
        clipped = sum(norm > 3.0 for norm in exact["grad_norms"])
        print(
            f"step {exact['step']}: loss {exact['loss']:.9f}, invariance {exact['invariance']:.9f}, "
            f"SIGReg {exact['sigreg']:.9f}, {clipped} gradients clipped; "
            f"loss in single precision {other['loss'] - exact['loss']:+.1e}"
        )
    worst = []
    for name, exact in double.network.items():
        start, other = double.start[name], rough.network[name]
        change, error = (exact - start).norm().item(), (other - exact).norm().item()
        if name in WITHOUT_GRADIENT:
            print(f"{name}: moved by {change:.1e}, in single precision by {(other - start).norm().item():.1e}")
        else:
            worst.append((error / change, name))
    print("largest differences in single precision, relative to the change in six steps:")
    for error, name in sorted(worst, reverse=True)[:6]:
        print(f"  {name}: {error:.1e}")


def write_json(path: Path, value: dict) -> None:
    """Writes one line; fails on a value that is not finite."""
    path.write_text(json.dumps(value, allow_nan=False) + "\n")


def main() -> None:
    """Writes the fixtures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixtures", type=Path, help="tests/fixtures of dinolab-train")
    args = parser.parse_args()
    torch.set_num_threads(1)
    inputs = load_file(args.fixtures / "training" / "inputs.safetensors")
    reference = json.loads((args.fixtures / "training" / "adamw.json").read_text())["config"]
    folder = args.fixtures / "lejepa"
    folder.mkdir(exist_ok=True)
    write_json(folder / "objective.json", golden_objective())
    write_json(folder / "head.json", golden_head())
    record, tensors, double, rough = golden_steps(inputs, reference)
    write_json(folder / "steps.json", record)
    save_file(tensors, folder / "steps.safetensors")
    report(double, rough)


if __name__ == "__main__":
    main()
