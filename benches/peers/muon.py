"""Makes the golden numbers of Muon's tests.

    python muon.py ../../crates/dinolab-nn/tests/fixtures/muon

Four steps of `torch.optim.Muon`, its rate adjusted to AdamW's (`match_rms_adamw`), of the matrices of hidden layers,
and of `torch.optim.AdamW` of the other parameters. PyTorch iterates in bfloat16; here it is made to in double
precision, and what that changes is printed. `steps.safetensors` has the parameters before and after, and the gradients.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.optim import _muon

LR, WEIGHT_DECAY, STEPS = 0.02, 0.1, 4
SHAPES = {
    "backbone.blocks.0.attn.qkv.weight": (24, 8),
    "backbone.blocks.0.attn.qkv.bias": (24,),
    "backbone.blocks.0.mlp.fc1.weight": (32, 8),
    "backbone.blocks.0.mlp.fc2.weight": (8, 32),
    "backbone.layer1.0.conv1.weight": (5, 4, 3, 3),
    "backbone.patch_embed.proj.weight": (8, 3, 2, 2),
    "backbone.stages.0.0.dwconv.weight": (8, 1, 3, 3),
    "head.mlp.0.weight": (6, 8),
    "head.last_layer.weight_v": (10, 6),
}
# How many matrices below each other a parameter is to Muon.
MATRICES = {
    "backbone.blocks.0.attn.qkv.weight": 3,
    "backbone.blocks.0.mlp.fc1.weight": 1,
    "backbone.blocks.0.mlp.fc2.weight": 1,
    "backbone.layer1.0.conv1.weight": 1,
}


def in_double(grad, coefficients, steps, eps):
    """The polynomial of singular values that PyTorch iterates, by a decomposition."""
    a, b, c = coefficients
    u, s, v = torch.linalg.svd(grad.double(), full_matrices=False)
    s = s / s.norm().clamp(min=eps)
    for _ in range(steps):
        s = a * s + b * s**3 + c * s**5
    return (u * s) @ v


def in_single(grad, coefficients, steps, eps):
    """The iteration in single precision: bfloat16 is slow on a CPU that has no instructions for it."""
    a, b, c = coefficients
    wide = grad.T if grad.shape[0] > grad.shape[1] else grad
    x = wide / wide.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if grad.shape[0] > grad.shape[1] else x


def trained(start, gradients):
    parts = {}
    for name, value in start.items():
        count = MATRICES.get(name, 0)
        flat = value.double().flatten(1) if count else value.double()
        parts[name] = [torch.nn.Parameter(part.clone()) for part in flat.chunk(count or 1)]
    hidden = [part for name in MATRICES for part in parts[name]]
    others = [n for n in start if n not in MATRICES]
    decays = lambda name: start[name].dim() > 1 and not name.endswith(".bias")
    groups = [
        {"params": [parts[n][0] for n in others if decays(n)], "weight_decay": WEIGHT_DECAY},
        {"params": [parts[n][0] for n in others if not decays(n)], "weight_decay": 0.0},
    ]
    optimisers = [
        torch.optim.Muon(hidden, lr=LR, weight_decay=WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, lr=LR),
    ]
    for step in gradients:
        for name, grad in step.items():
            flat = grad.double().flatten(1) if name in MATRICES else grad.double()
            for part, own in zip(parts[name], flat.chunk(len(parts[name]))):
                part.grad = own.clone()
        for optimiser in optimisers:
            optimiser.step()
    whole = lambda name: torch.cat([part.detach() for part in parts[name]])
    return {name: whole(name).reshape(SHAPES[name]) for name in start}


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    start = {name: 0.1 * torch.randn(shape) for name, shape in SHAPES.items()}
    gradients = [{name: torch.randn(shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
    theirs = trained(start, gradients)
    _muon._zeropower_via_newtonschulz = in_double
    after = trained(start, gradients)
    for name in SHAPES:
        moved = (after[name] - start[name]).norm()
        print(f"{name}: bfloat16 is {(theirs[name] - after[name]).norm() / moved:.1e} of the way off")
    arrays = {f"start.{name}": value for name, value in start.items()}
    arrays |= {f"end.{name}": value.float() for name, value in after.items()}
    for step, grads in enumerate(gradients):
        arrays |= {f"gradient.{step}.{name}": value for name, value in grads.items()}
    save_file({name: value.contiguous() for name, value in arrays.items()}, folder / "steps.safetensors")


if __name__ == "__main__":
    main()
