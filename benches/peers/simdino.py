"""SimDINO's loss and step in PyTorch, derived from the formulas alone, and the golden numbers from them.

    python simdino.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `simdino`, whose README.md describes them. The initial
weights, the crops and the schedules come from `training` in the same folder. PyTorch's automatic
differentiation computes every gradient.
"""

from __future__ import annotations

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from dino import clip_each, decays, follow
from dino_terms import cosine
from joint_embedding import array, fixtures_folder, single, summary, write_json
from model import HeadConfig, Network, VitConfig


def coding_rate(rows: Tensor, batch: int, epsilon: float) -> Tensor:
    """Mean over the views of `[G·B, d]` of half the logarithm of det(I + d/(B·epsilon) · ZᵀZ)."""
    views = rows.unflatten(0, (-1, batch))
    width = rows.shape[1]
    gram = views.transpose(1, 2) @ views
    own = torch.eye(width, dtype=rows.dtype)
    return 0.5 * torch.linalg.slogdet(own + width / (batch * epsilon) * gram).logabsdet.mean()


def similarity(student: Tensor, teacher: Tensor, batch: int) -> Tensor:
    """Mean cosine of a teacher's global view and another view of the student, pair by pair."""
    own, taught = student.unflatten(0, (-1, batch)), teacher.unflatten(0, (-1, batch))
    pairs = [(g, v) for g in range(2) for v in range(len(own)) if v != g]
    return torch.stack([F.cosine_similarity(taught[g], own[v], dim=-1).mean() for g, v in pairs]).mean()


def terms(student: Tensor, teacher: Tensor, batch: int, epsilon: float) -> dict[str, Tensor]:
    """Similarity and coding rate of unit vectors `[V·B, d]` and `[2·B, d]`."""
    mean = (student[: 2 * batch] + teacher) / 2
    return {
        "similarity": similarity(student, teacher, batch),
        "coding_rate": coding_rate(mean, batch, epsilon),
    }


def golden_terms() -> dict:
    """Both terms and their gradients in the student's outputs, in double precision."""
    random = torch.Generator().manual_seed(31)

    def draw(rows: int, width: int) -> Tensor:
        rows = torch.randn(rows, width, generator=random, dtype=torch.float64)
        return single(F.normalize(rows, dim=-1))

    equal = draw(1, 6)
    inputs = {
        "general": (5, draw(20, 6), draw(10, 6)),
        "more_images_than_dimensions": (9, draw(36, 4), draw(18, 4)),
        "one_image": (1, draw(4, 6), draw(2, 6)),
        "equal_rows": (5, equal.repeat(20, 1), equal.repeat(10, 1)),
    }
    cases = []
    for name, (batch, z, taught) in inputs.items():
        z.requires_grad_()
        found = terms(z, taught, batch, 0.5)
        # The cosine's own normalisation has no part in the gradient of unit vectors' dot product.
        views = z.unflatten(0, (-1, batch))
        both = taught.unflatten(0, (-1, batch)).flip(0)
        products = torch.cat([views[:2] * both, views[2:] * both.sum(dim=0)])
        dots = products.sum() / ((2 * len(views) - 2) * batch)
        assert torch.allclose(dots, found["similarity"], atol=1e-7)
        (pull,) = torch.autograd.grad(dots, z)
        (spread,) = torch.autograd.grad(found["coding_rate"], z)
        cases.append(
            {
                "name": name,
                "batch": batch,
                "epsilon": 0.5,
                "student": array(z),
                "teacher": array(taught),
                **{term: value.item() for term, value in found.items()},
                "similarity_grad": array(pull),
                "coding_rate_grad": array(spread),
            }
        )
    return {"cases": cases}


def golden_steps(inputs: dict[str, Tensor], reference: dict) -> dict:
    """Six steps in double precision."""
    torch.set_default_dtype(torch.float64)
    said = reference["config"] | {"coding_rate_weight": 0.5, "coding_rate_epsilon": 0.5}
    said |= {"momentum_teacher_end": 0.95}
    vit = VitConfig(
        said["img_size"], said["patch_size"], said["embed_dim"], said["num_heads"], said["depth"]
    )
    head = HeadConfig(said["out_dim"], said["head_hidden_dim"], said["bottleneck_dim"])
    networks = [Network(vit, head), Network(vit, head)]
    start = {
        k.removeprefix("init.student."): v.double()
        for k, v in inputs.items()
        if k.startswith("init.student.") and "last_layer" not in k
    }
    for network in networks:
        # No prototypes: the outputs are those of the bottleneck.
        network.head.last_layer = torch.nn.Identity()
        network.load_state_dict(start)
    student, teacher = networks
    teacher.requires_grad_(False)
    named = list(student.named_parameters())
    parameters = [p for _, p in named]
    followers = [dict(teacher.named_parameters())[n] for n, _ in named]
    optimiser = torch.optim.AdamW(
        [
            {"params": [p for n, p in named if decays(n, p)]},
            {"params": [p for n, p in named if not decays(n, p)], "weight_decay": 0.0},
        ],
        foreach=False,
    )
    batch, steps = said["batch"], said["epochs"] * said["iters_per_epoch"]
    log = []
    for step, now in enumerate(reference["log"]):
        crops = [inputs[f"step{step}.crop{i}"].double() for i in range(2 + said["local_crops"])]
        views = [torch.cat(crops[:2]), torch.cat(crops[2:])]
        momentum = cosine(said["momentum_teacher"], said["momentum_teacher_end"], step, steps)
        for group, decay in zip(optimiser.param_groups, (now["weight_decay"], 0.0)):
            group["lr"], group["weight_decay"] = now["lr"], decay
        with torch.no_grad():
            taught = teacher(views[:1])
        found = terms(student(views), taught, batch, said["coding_rate_epsilon"])
        loss = -found["similarity"] - said["coding_rate_weight"] * found["coding_rate"]
        loss.backward()
        norms = [p.grad.norm().item() for p in parameters]
        with torch.no_grad():
            clip_each([p.grad for p in parameters], said["clip_grad"])
            optimiser.step()
            follow(followers, parameters, momentum)
        optimiser.zero_grad(set_to_none=True)
        figures = {"loss": loss.item()} | {term: value.item() for term, value in found.items()}
        print(f"step {step}: {figures}")
        log.append({"lr": now["lr"], "teacher_momentum": momentum} | figures | {"grad_norms": norms})
    torch.set_default_dtype(torch.float32)
    final = {
        who: {n: summary(p.detach(), start[n]) for n, p in network.named_parameters()}
        for who, network in (("student", student), ("teacher", teacher))
    }
    return {"config": said, "log": log, "final": final}


def main() -> None:
    """Writes the fixtures."""
    fixtures, folder = fixtures_folder(__doc__, "simdino")
    inputs = load_file(fixtures / "training" / "inputs.safetensors")
    reference = json.loads((fixtures / "training" / "adamw.json").read_text())
    write_json(folder / "terms.json", golden_terms())
    write_json(folder / "steps.json", golden_steps(inputs, reference))


if __name__ == "__main__":
    main()
