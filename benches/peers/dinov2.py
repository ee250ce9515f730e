"""iBOT's loss and DINOv2's step in PyTorch, derived from the formulas alone, and the golden numbers from them.

    python dinov2.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `dinov2`, whose README.md describes them. The initial weights of
backbone and head, the crops and the schedules come from `training` in the same folder. PyTorch's automatic
differentiation computes every gradient, in double precision.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dino import clip_each, decays, dino_loss, follow
from dino_terms import cosine, koleo, sinkhorn
from joint_embedding import array, fixtures_folder, single, summary, write_json
from model import Head, HeadConfig, Vit, VitConfig

JOINED = 2
"""Recorded steps whose crops make one batch."""


def ibot_loss(student: Tensor, targets: Tensor, masks: list[list[int]], temperature: float) -> Tensor:
    """Mean over all views of the mean over a view's masked patches of the cross entropy.

    `student` are logits `[M, K]` and `targets` probabilities `[M, K]` of the masked patches, view by view;
    `masks` are the masked places of each view. A view without any counts as 0.
    """
    total, first = student.new_zeros(()), 0
    for places in masks:
        if places:
            own = slice(first, first + len(places))
            log_p = F.log_softmax(student[own] / temperature, dim=-1)
            total = total - (targets[own] * log_p).sum(dim=-1).mean()
            first += len(places)
    return total / len(masks)


class MaskedVit(Vit):
    """A backbone that sees a learned token in place of masked patches."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__(config)
        self.mask_token = nn.Parameter(torch.zeros(1, config.width))

    def tokens(self, images: Tensor, masks: list[list[int]] | None = None) -> Tensor:
        """All tokens after the last norm, `[B, 1 + N, D]`."""
        patch = self.config.patch_size
        height, width = images.shape[-2] // patch, images.shape[-1] // patch
        patches = self.patch_embed(images)
        for image, places in enumerate(masks or []):
            for place in places:
                token = torch.zeros_like(patches)
                token[image, place] = 1.0
                patches = patches * (1.0 - token) + self.mask_token * token
        cls = self.cls_token.expand(images.shape[0], -1, -1)
        x = torch.cat([cls, patches], dim=1) + self.positions(height, width)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MaskedNetwork(nn.Module):
    """Backbone, head on class tokens, and head on patch tokens if it is apart."""

    def __init__(self, vit: VitConfig, head: HeadConfig, patch_head: HeadConfig | None) -> None:
        super().__init__()
        self.backbone = MaskedVit(vit)
        self.head = Head(vit.width, head)
        if patch_head:
            self.ibot_head = Head(vit.width, patch_head)

    def of_patches(self, tokens: Tensor, masks: list[list[int]]) -> Tensor:
        """Logits of the masked patches of tokens `[B, 1 + N, D]`, view by view."""
        rows = [tokens[view, 1 + place] for view, places in enumerate(masks) for place in places]
        head = self.ibot_head if hasattr(self, "ibot_head") else self.head
        return head(torch.stack(rows))


def golden_loss() -> dict:
    """Values and gradients of iBOT's loss on small cases."""
    random = torch.Generator().manual_seed(41)
    inputs = {
        "general": ([[0, 2, 3], [], [1], [0, 1, 2, 3, 5]], 7),
        "one_patch": ([[4], []], 5),
        "all_views": ([[0], [1, 2]], 3),
    }
    cases = []
    for name, (masks, prototypes) in inputs.items():
        rows = sum(len(places) for places in masks)

        def draw() -> Tensor:
            return single(torch.tanh(torch.randn(rows, prototypes, generator=random, dtype=torch.float64)))

        student, targets = draw().requires_grad_(), single(sinkhorn(draw(), 0.07))
        value = ibot_loss(student, targets, masks, 0.1)
        (grad,) = torch.autograd.grad(value, student)
        case = {"name": name, "masks": masks, "student": array(student), "targets": array(targets)}
        cases.append(case | {"value": value.item(), "grad": array(grad)})
    return {"cases": cases}


def draw_masks(views: int, patches: int, random: torch.Generator) -> list[list[int]]:
    """Half of the views with some masked patches each."""
    masks: list[list[int]] = [[] for _ in range(views)]
    for view in torch.randperm(views, generator=random)[: views // 2].tolist():
        count = int(torch.randint(1, patches // 2 + 1, (1,), generator=random))
        masks[view] = sorted(torch.randperm(patches, generator=random)[:count].tolist())
    return masks


def golden_steps(inputs: dict[str, Tensor], reference: dict, settings: dict, extra: dict[str, Tensor]) -> dict:
    """Six steps. `extra` are the initial mask token and patch head."""
    torch.set_default_dtype(torch.float64)
    said = reference["config"] | settings | {"momentum_teacher_end": 0.95, "joined_steps": JOINED}
    vit = VitConfig(
        said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
    )
    head = HeadConfig(said["out_dim"], said["head_hidden_dim"], said["bottleneck_dim"])
    apart = None
    if said["ibot_head"] == "apart":
        apart = HeadConfig(said["ibot_out_dim"], said["head_hidden_dim"], said["bottleneck_dim"])
    student, teacher = [MaskedNetwork(vit, head, apart) for _ in range(2)]
    teacher.requires_grad_(False)
    start = {k.removeprefix("init.student."): v.double() for k, v in inputs.items() if k.startswith("init.student.")}
    start |= {k: v.double() for k, v in extra.items() if apart or not k.startswith("ibot_head")}
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
    centres = {which: torch.zeros(k) for which, k in (("class", head.out_dim), ("patch", (apart or head).out_dim))}

    def targets_of(which: str, logits: Tensor, temperature: float) -> Tensor:
        if said["centering"] == "sinkhorn":
            return sinkhorn(logits, temperature)
        found = F.softmax((logits - centres[which]) / temperature, dim=-1)
        # The centre follows after it was used.
        m = said["center_momentum"]
        centres[which] = centres[which] * m + logits.mean(dim=0) * (1 - m)
        return found

    random = torch.Generator().manual_seed(42)
    batch, steps = JOINED * said["batch"], said["epochs"] * said["iters_per_epoch"]
    patches = (said["global_size"] // said["patch_size"]) ** 2
    log, of_log = [], reference["log"]
    for step, now in enumerate(of_log):
        joined = [(step + i) % len(of_log) for i in range(JOINED)]
        crops = [
            torch.cat([inputs[f"step{s}.crop{i}"].double() for s in joined])
            for i in range(2 + said["local_crops"])
        ]
        views = [torch.cat(crops[:2]), torch.cat(crops[2:])]
        masks = draw_masks(2 * batch, patches, random)
        momentum = cosine(said["momentum_teacher"], said["momentum_teacher_end"], step, steps)
        for group, decay in zip(optimiser.param_groups, (now["weight_decay"], 0.0)):
            group["lr"], group["weight_decay"] = now["lr"], decay
        with torch.no_grad():
            taught = teacher.backbone.tokens(views[0])
            targets = targets_of("class", teacher.head(taught[:, 0]), now["teacher_temp"])
            patch_targets = targets_of("patch", teacher.of_patches(taught, masks), now["teacher_temp"])
        tokens = student.backbone.tokens(views[0], masks)
        features = torch.cat([tokens[:, 0], student.backbone.tokens(views[1])[:, 0]])
        cross_entropy = dino_loss(student.head(features), targets, batch, said["student_temp"])
        of_patches = ibot_loss(student.of_patches(tokens, masks), patch_targets, masks, said["student_temp"])
        apart_term = koleo(features[: 2 * batch], batch)
        loss = cross_entropy + said["ibot_weight"] * of_patches + said["koleo_weight"] * apart_term
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
        figures = {"loss": loss, "dino": cross_entropy, "ibot": of_patches, "koleo": apart_term}
        figures = {name: value.item() for name, value in figures.items()}
        print(f"{said['ibot_head']}, step {step}: {figures}")
        own = {"lr": now["lr"], "teacher_momentum": momentum, "teacher_temp": now["teacher_temp"]}
        log.append(own | {"masks": masks} | figures | {"grad_norms": norms})
    torch.set_default_dtype(torch.float32)
    final = {
        who: {n: summary(p.detach(), start[n]) for n, p in network.named_parameters()}
        for who, network in (("student", student), ("teacher", teacher))
    }
    names = [name for name, _ in named]
    return {"config": said, "names": names, "log": log, "final": final}


def initial(reference: dict) -> dict[str, Tensor]:
    """A mask token and a head on patches."""
    said, random = reference["config"], torch.Generator().manual_seed(43)
    network = Head(said["embed_dim"], HeadConfig(PROTOTYPES, said["head_hidden_dim"], said["bottleneck_dim"]))
    tensors = {"backbone.mask_token": torch.zeros(1, said["embed_dim"])}
    tensors |= {f"ibot_head.{name}": tensor.detach() for name, tensor in network.state_dict().items()}

    def drawn(name: str, tensor: Tensor) -> Tensor:
        if name.endswith("weight_g"):
            return torch.ones_like(tensor)
        return 0.2 * torch.randn(tensor.shape, generator=random)

    return {name: drawn(name, tensor).contiguous() for name, tensor in tensors.items()}


PROTOTYPES = 40
"""Of the head on patches, if it is apart."""


def main() -> None:
    """Writes the fixtures."""
    fixtures, folder = fixtures_folder(__doc__, "dinov2")
    inputs = load_file(fixtures / "training" / "inputs.safetensors")
    reference = json.loads((fixtures / "training" / "adamw.json").read_text())
    extra = initial(reference)
    save_file(extra, Path(folder) / "initial.safetensors")
    write_json(folder / "loss.json", golden_loss())
    common = {"ibot_weight": 0.8, "koleo_weight": 0.2}
    apart = common | {"centering": "sinkhorn", "ibot_head": "apart", "ibot_out_dim": PROTOTYPES}
    shared = common | {"centering": "centre", "ibot_head": "shared"}
    for name, settings in (("sinkhorn_apart", apart), ("centre_shared", shared)):
        write_json(folder / f"{name}.json", golden_steps(inputs, reference, settings, extra))


if __name__ == "__main__":
    main()
