"""Makes the golden numbers of six DINO steps of a small residual network with SGD and LARS.

    python resnet_steps.py ../../crates/dinolab-train/tests/fixtures/resnet

Everything is computed in double precision by PyTorch's automatic differentiation, in the reference's
order: the teacher's forward pass in training mode, the student's one for each size of views, the loss,
the centre, the gradients each clipped by its own norm, the optimiser, the teacher. Running statistics
follow each network's own forward passes. `steps.safetensors` gets the initial network (`init.`), the views
(which odd steps see mirrored and steps 2 and 3 upside down), and by optimiser the losses, the centre and
both networks after the last step.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from dino import clip_each, decays, dino_loss, follow
from resnet_fixtures import ResNet

STEPS, BATCH, OUT_DIM = 6, 4, 24
RATES = {"sgd": 0.05, "lars": 0.5}
WEIGHT_DECAY, MOMENTUM, CLIP = 0.01, 0.9, 0.5
STUDENT_TEMP, TEACHER_TEMP, CENTRE_MOMENTUM, TEACHER_MOMENTUM = 0.1, 0.05, 0.9, 0.8


class Head(nn.Module):
    """DINO's head, with prototypes of length 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = (width, 16, 16, 8)
        layers: list[nn.Module] = []
        for inputs, outputs in zip(sizes, sizes[1:]):
            layers += [nn.Linear(inputs, outputs), nn.GELU()]
        self.mlp = nn.Sequential(*layers[:-1])
        self.weight_v = nn.Parameter(torch.randn(OUT_DIM, 8))

    def forward(self, x: Tensor) -> Tensor:
        """Features `[R, F]` to logits `[R, K]`."""
        return F.normalize(self.mlp(x), dim=-1) @ F.normalize(self.weight_v, dim=-1).T


class Network(nn.Module):
    """Backbone and head; views of each size go through the backbone by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = ResNet(BasicBlock, (1, 1, 1, 1), 2)
        self.head = Head(16)

    def forward(self, views: list[Tensor]) -> Tensor:
        """Views `[V·B, 3, H, W]` to logits."""
        return self.head(torch.cat([self.backbone(view) for view in views]))


def names(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    """All tensors of a network but counters, in single precision, by the reference's names."""
    state = network.state_dict()
    return {
        prefix + name.replace("head.weight_v", "head.last_layer.weight_v"): tensor.float()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def update(kind: str, parameter: Tensor, name: str, buffers: dict[str, Tensor]) -> None:
    """SGD with momentum, or LARS, of one parameter."""
    step = parameter.grad
    if kind == "sgd":
        if decays(name, parameter):
            step = step + WEIGHT_DECAY * parameter
    elif parameter.ndim != 1:
        step = step + WEIGHT_DECAY * parameter
        size, length = parameter.norm(), step.norm()
        if size > 0 and length > 0:
            step = step * (0.001 * size / length)
    buffers[name] = MOMENTUM * buffers[name] + step if name in buffers else step.clone()
    parameter -= RATES[kind] * buffers[name]


def turned(view: Tensor, step: int) -> Tensor:
    """What a step sees of a view."""
    axes = [3] * (step % 2) + [2] * (step // 2 % 2)
    return view.flip(axes) if axes else view


def train(kind: str, start: Network, views: list[Tensor]) -> dict[str, Tensor]:
    """Six steps."""
    student, teacher = copy.deepcopy(start), copy.deepcopy(start).requires_grad_(False)
    named = dict(student.named_parameters())
    centre = torch.zeros(1, OUT_DIM, dtype=torch.float64)
    losses, buffers = [], {}
    for step in range(STEPS):
        seen = [turned(view, step) for view in views]
        with torch.no_grad():
            logits = teacher(seen[:1])
        targets = F.softmax((logits - centre) / TEACHER_TEMP, dim=-1)
        loss = dino_loss(student(seen), targets, BATCH, STUDENT_TEMP)
        losses.append(loss.detach())
        centre = CENTRE_MOMENTUM * centre + (1 - CENTRE_MOMENTUM) * logits.mean(0, keepdim=True)
        student.zero_grad()
        loss.backward()
        with torch.no_grad():
            clip_each([p.grad for p in named.values()], CLIP)
            for name, parameter in named.items():
                update(kind, parameter, name, buffers)
            follow(list(teacher.parameters()), list(student.parameters()), TEACHER_MOMENTUM)
    found = {f"{kind}.losses": torch.stack(losses).float(), f"{kind}.centre": centre[0].float()}
    return found | names(student, f"{kind}.student.") | names(teacher, f"{kind}.teacher.")


def main() -> None:
    """Writes the file."""
    torch.manual_seed(5)
    start = Network().double().train()
    random = torch.Generator().manual_seed(6)
    sizes = ((2, 40), (3, 24))
    views = [torch.randn(n * BATCH, 3, side, side, generator=random) for n, side in sizes]
    # Views of an image resemble each other.
    for view, (n, _) in zip(views, sizes):
        view += torch.randn(BATCH, 3, 1, 1, generator=random).repeat(n, 1, 1, 1)
    found = {"global": views[0], "local": views[1]} | names(start, "init.")
    for kind in RATES:
        found |= train(kind, start, [view.double() for view in views])
        print(kind, [round(float(loss), 4) for loss in found[f"{kind}.losses"]])
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in found.items()}, folder / "steps.safetensors")


if __name__ == "__main__":
    main()
