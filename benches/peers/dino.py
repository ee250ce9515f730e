"""One training step of DINO in PyTorch, in the reference's order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model import HeadConfig, Network, VitConfig


@dataclass(frozen=True)
class StepValues:
    """What the schedules say for one step."""

    lr: float = 1e-4
    weight_decay: float = 0.04
    momentum: float = 0.996
    teacher_temp: float = 0.04
    freeze_last_layer: bool = False


@dataclass(frozen=True)
class StepConfig:
    """What stays the same from step to step."""

    vit: VitConfig
    head: HeadConfig
    clip_grad: float = 3.0
    student_temp: float = 0.1
    center_momentum: float = 0.9
    adamw: str = "fused"
    """`fused`, `foreach` or `loop`."""
    precision: str = "f32"
    compiled: bool = False


def dino_loss(student: Tensor, targets: Tensor, batch: int, student_temp: float) -> Tensor:
    """Mean over pairs of different views of the cross entropy between teacher and student.

    `student` are the logits `[V·B, K]` of all views, `targets` the teacher's probabilities
    `[2·B, K]`; both view-major.
    """
    students = (student / student_temp).split(batch)
    total, pairs = student.new_zeros(()), 0
    for i, target in enumerate(targets.split(batch)):
        for v, view in enumerate(students):
            if v == i:
                continue
            total = total - (target * F.log_softmax(view, dim=-1)).sum(dim=-1).mean()
            pairs += 1
    return total / pairs


def decays(name: str, parameter: Tensor) -> bool:
    """Whether weight decay applies to a parameter."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def clip_each(grads: Sequence[Tensor], limit: float) -> None:
    """Scales every gradient whose own norm is above `limit` down to it."""
    factors = torch._foreach_norm(grads)
    torch._foreach_add_(factors, 1e-6)
    torch._foreach_reciprocal_(factors)
    torch._foreach_mul_(factors, limit)
    torch._foreach_clamp_max_(factors, 1.0)
    torch._foreach_mul_(grads, factors)


def follow(teacher: Sequence[Tensor], student: Sequence[Tensor], momentum: float) -> None:
    """Teacher ← momentum · teacher + (1 − momentum) · student."""
    torch._foreach_lerp_(teacher, student, 1.0 - momentum)


class Dino:
    """Student, teacher, centre and optimiser."""

    def __init__(self, config: StepConfig, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.student = Network(config.vit, config.head).to(device)
        # The teacher has no stochastic depth, records no gradients and starts as a copy.
        teacher_vit = replace(config.vit, drop_path_rate=0.0)
        self.teacher = Network(teacher_vit, config.head).to(device).requires_grad_(False)
        self.teacher.load_state_dict(self.student.state_dict())
        self.centre = torch.zeros(1, config.head.out_dim, device=device)

        named = [(n, p) for n, p in self.student.named_parameters() if p.requires_grad]
        self.parameters = [p for _, p in named]
        self.last_layer = [p for n, p in named if "last_layer" in n]
        teacher = dict(self.teacher.named_parameters())
        self.followers = [teacher[n] for n, _ in named]
        kind = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
        self.optimiser = torch.optim.AdamW(
            [
                {"params": [p for n, p in named if decays(n, p)]},
                {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
            ],
            **kind[config.adamw],
        )

        wrap: Callable = torch.compile if config.compiled else (lambda function: function)
        self.teach = wrap(self._teach)
        self.learn = wrap(self._learn)

    def autocast(self) -> torch.autocast:
        """Where matrix products take the configured precision."""
        half = self.config.precision == "bf16"
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half)

    def _teach(self, globals_: Tensor, centre: Tensor, temp: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's probabilities and the mean of its raw logits, `[1, K]`."""
        with self.autocast():
            logits = self.teacher([globals_])
        logits = logits.float()
        return F.softmax((logits - centre) / temp, dim=-1), logits.mean(dim=0, keepdim=True)

    def _learn(self, views: Sequence[Tensor], targets: Tensor) -> Tensor:
        """The loss of the student's outputs for all views."""
        with self.autocast():
            logits = self.student(views)
        batch = views[0].shape[0] // 2
        return dino_loss(logits.float(), targets, batch, self.config.student_temp)

    def step(
        self,
        views: Sequence[Tensor],
        now: StepValues,
        after_teacher: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """One step on `views`: `[2·B, 3, G, G]` and `[L·B, 3, S, S]`, view-major. Returns the loss."""
        for group, decay in zip(self.optimiser.param_groups, (now.weight_decay, 0.0)):
            group["lr"], group["weight_decay"] = now.lr, decay
        # A tensor, so that another temperature does not compile anew.
        temp = torch.tensor(now.teacher_temp, device=self.device)
        with torch.no_grad():
            targets, mean = self.teach(views[0], self.centre, temp)
        after_teacher()
        loss = self.learn(views, targets)
        self.centre.mul_(self.config.center_momentum).add_(mean, alpha=1 - self.config.center_momentum)
        loss.backward()
        with torch.no_grad():
            if self.config.clip_grad > 0:
                clip_each([p.grad for p in self.parameters], self.config.clip_grad)
            if now.freeze_last_layer:
                for parameter in self.last_layer:
                    parameter.grad = None
            self.optimiser.step()
            follow(self.followers, self.parameters, now.momentum)
        self.optimiser.zero_grad(set_to_none=True)
        return loss.detach()
