"""Methods without a teacher in PyTorch: network, training step, and golden numbers of six steps.

`lejepa.py` and `visreg.py` have the losses. PyTorch's automatic differentiation computes every
gradient.
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
from model import ConvolutionalConfig, VitConfig, backbone_of, init_linear

GLOBAL_VIEWS = 2
BATCH_NORM_EPS = 1e-5


# The objective.


@dataclass(frozen=True)
class Objective:
    """The loss and its terms by name, all scalars."""

    loss: Tensor
    terms: dict[str, Tensor]


Loss = Callable[[Tensor, int, Tensor], Objective]
"""From outputs `[V·B, d]`, view-major with the global views first, B and directions `[S, d]`."""


def invariance(views: Tensor) -> Tensor:
    """Mean squared distance of `[V, B, d]` to each image's mean over its global views."""
    centre = views[:GLOBAL_VIEWS].mean(dim=0)
    return (views - centre).square().mean()


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


class EmbeddingNetwork(nn.Module):
    """Backbone and projection head. Views of one size go through the backbone together."""

    def __init__(self, vit: VitConfig | ConvolutionalConfig, head: ProjectionConfig) -> None:
        super().__init__()
        self.backbone = backbone_of(vit)
        self.head = Projection(vit.width, head)

    def forward(self, views: Sequence[Tensor]) -> Tensor:
        """Outputs of all views, in order; one tensor of `views` per size."""
        return self.head(torch.cat([self.backbone(images) for images in views]))


# The training step.


@dataclass(frozen=True)
class LearnerConfig:
    """What stays the same from step to step."""

    vit: VitConfig | ConvolutionalConfig
    head: ProjectionConfig
    directions: int = 256
    clip_grad: float = 3.0
    adamw: str = "fused"
    """`fused`, `foreach` or `loop`."""
    muon: bool = False
    """Muon for the matrices of the blocks, AdamW for the rest."""
    precision: str = "f32"
    compiled: bool = False


def unit_directions(count: int, width: int, random: torch.Generator | None, like: Tensor) -> Tensor:
    """Uniformly distributed unit vectors `[count, width]`."""
    drawn = torch.randn(count, width, generator=random, dtype=like.dtype, device=like.device)
    return F.normalize(drawn, dim=-1)


class Learner:
    """Network, average and optimiser."""

    def __init__(self, config: LearnerConfig, loss: Loss, device: torch.device) -> None:
        self.config = config
        self.loss = loss
        self.network = EmbeddingNetwork(config.vit, config.head).to(device)
        # The average starts as a copy.
        average_vit = replace(config.vit, drop_path_rate=0.0)
        self.average = EmbeddingNetwork(average_vit, config.head).to(device).requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        self.objective: Objective | None = None
        """That of the last step."""
        self.grad_norms: list[Tensor] = []
        """Norms of the last step's gradients before clipping, where they were asked for."""

        named = list(self.network.named_parameters())
        self.parameters = [p for _, p in named]
        self.followers = list(self.average.parameters())
        kind = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
        hidden = [p for n, p in named if config.muon and "blocks." in n and p.ndim == 2]
        self.muon = torch.optim.Muon(hidden, adjust_lr_fn="match_rms_adamw") if hidden else None
        others = [(n, p) for n, p in named if all(p is not matrix for matrix in hidden)]
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for n, p in others if decays(n, p)]},
                {"params": [p for n, p in others if not decays(n, p)], "weight_decay": 0.0},
            ],
            betas=(0.9, 0.999),
            eps=1e-8,
            **kind[config.adamw],
        )
        wrap: Callable = torch.compile if config.compiled else (lambda function: function)
        self.learn = wrap(self._learn)

    def _learn(self, views: Sequence[Tensor], directions: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of all views and its terms."""
        half = self.config.precision == "bf16"
        with torch.autocast(views[0].device.type, dtype=torch.bfloat16, enabled=half):
            outputs = self.network(views)
        # The objective keeps the full precision.
        outputs = outputs.to(directions.dtype)
        batch = views[0].shape[0] // GLOBAL_VIEWS
        found = self.loss(outputs, batch, directions)
        return found.loss, found.terms

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
        if self.muon:
            group = self.muon.param_groups[0]
            group["lr"], group["weight_decay"] = now.lr, now.weight_decay
        if directions is None:
            directions = unit_directions(
                self.config.directions, self.config.head.out_dim, None, self.parameters[0]
            )
        loss, terms = self.learn(views, directions)
        loss.backward()
        self.objective = Objective(loss.detach(), {n: t.detach() for n, t in terms.items()})
        with torch.no_grad():
            grads = [p.grad for p in self.parameters]
            if record_norms:
                self.grad_norms = [g.norm() for g in grads]
            if self.config.clip_grad > 0:
                clip_each(grads, self.config.clip_grad)
            self.optimiser.step()
            if self.muon:
                self.muon.step()
            follow(self.followers, self.parameters, now.momentum)
        self.network.zero_grad(set_to_none=True)
        return self.objective.loss


# The golden numbers.


def array(tensor: Tensor) -> dict[str, list]:
    """A tensor for JSON, row-major, with all its digits."""
    return {"shape": list(tensor.shape), "data": tensor.detach().flatten().tolist()}


def single(tensor: Tensor) -> Tensor:
    """The values that single precision can hold, in double precision."""
    return tensor.float().double()


def golden_objective(
    loss: Loss, inputs: dict[str, tuple[int, Tensor]], random: torch.Generator, whole: bool = True
) -> list[dict]:
    """The objective's values and its gradient on `[V·B, d]` with B each, in double precision.

    `whole`: no part of the gradient is left out, so that finite differences can confirm it.
    """
    cases = []
    for name, (batch, z) in inputs.items():
        like = torch.randn(1, generator=random, dtype=torch.float64)
        directions = single(unit_directions(7, z.shape[1], random, like))
        z = single(z).requires_grad_()
        found = loss(z, batch, directions)
        (grad,) = torch.autograd.grad(found.loss, z)
        assert not whole or torch.autograd.gradcheck(lambda z: loss(z, batch, directions).loss, z)
        assert grad.isfinite().all()
        cases.append(
            {
                "name": name,
                "views": len(z) // batch,
                "batch": batch,
                "z": array(z),
                "directions": array(directions),
                "loss": found.loss.item(),
                **{term: value.item() for term, value in found.terms.items()},
                "grad": array(grad),
            }
        )
    return cases


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


def six_steps(
    loss: Loss, inputs: dict[str, Tensor], given: dict[str, Tensor], said: dict, dtype: torch.dtype
) -> Run:
    """Trains on the recorded crops."""
    config = LearnerConfig(
        vit=VitConfig(
            said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
        ),
        head=ProjectionConfig(said["out_dim"], said["head_hidden_dim"]),
        clip_grad=said["clip_grad"],
        adamw="loop",
    )
    torch.set_default_dtype(dtype)
    learner = Learner(config, loss, torch.device("cpu"))
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
        joined = [(step + i) % len(said["lr"]) for i in range(said["joined_steps"])]
        crops = [torch.cat([inputs[f"step{s}.crop{i}"] for s in joined]).to(dtype) for i in range(views)]
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
                **{term: value.item() for term, value in found.terms.items()},
                "grad_norms": [n.item() for n in learner.grad_norms],
            }
        )
    torch.set_default_dtype(torch.float32)

    def state(network: nn.Module) -> dict[str, Tensor]:
        return {k: v.detach().double() for k, v in network.state_dict().items()}

    start = {k: v.double() for k, v in start.items()}
    return Run(log, outputs, start, state(learner.network), state(learner.average))


def golden_steps(
    loss: Loss, settings: dict, inputs: dict[str, Tensor], reference: dict
) -> tuple[dict, dict[str, Tensor], Run, Run]:
    """The configuration and log of six steps, the tensors, and the runs in double and single."""
    said = {k: reference[k] for k in ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "batch")}
    said |= {"global_crops": GLOBAL_VIEWS, "local_crops": reference["local_crops"]}
    # A batch has the images of so many recorded steps.
    said |= {"joined_steps": 1}
    said |= {"out_dim": 16, "head_hidden_dim": 32, "directions": 24} | settings
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
    double = six_steps(loss, inputs, given, said, torch.float64)
    rough = six_steps(loss, inputs, given, said, torch.float32)
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
        terms = [f"{name} {exact[name]:.9f}" for name in exact if name not in ("step", "lr", "grad_norms")]
        print(
            f"step {exact['step']}: {', '.join(terms)}, {clipped} gradients clipped; "
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


def write_steps(loss: Loss, settings: dict, fixtures: Path, folder: Path) -> None:
    """Six steps with the network and the crops of `training` in `fixtures`; `settings` are the loss's."""
    inputs = load_file(fixtures / "training" / "inputs.safetensors")
    reference = json.loads((fixtures / "training" / "adamw.json").read_text())["config"]
    record, tensors, double, rough = golden_steps(loss, settings, inputs, reference)
    write_json(folder / "steps.json", record)
    save_file(tensors, folder / "steps.safetensors")
    report(double, rough)


def fixtures_folder(description: str, method: str) -> tuple[Path, Path]:
    """The folder of fixtures that the command line names, and the method's own in it."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("fixtures", type=Path, help="tests/fixtures of dinolab-train")
    fixtures = parser.parse_args().fixtures
    torch.set_num_threads(1)
    folder = fixtures / method
    folder.mkdir(exist_ok=True)
    return fixtures, folder
