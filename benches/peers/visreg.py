"""VISReg's loss in PyTorch, derived from the formulas alone, and the golden numbers from it.

    python visreg.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `visreg`, whose README.md describes them. Network and
training step are those of `joint_embedding.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from joint_embedding import (
    Objective,
    fixtures_folder,
    golden_objective,
    invariance,
    write_json,
    write_steps,
)

EPS = 1e-4
"""Added to variances."""


def terms(views: Tensor, directions: Tensor) -> dict[str, Tensor]:
    """Location, scale and shape of `[V, B, d]` along directions `[S, d]`."""
    batch = views.shape[1]
    mean = views.mean(dim=1, keepdim=True)
    deviation = torch.sqrt(views.var(dim=1, keepdim=True, correction=0) + EPS)
    # No gradient through this deviation.
    standard = (views - mean) / deviation.detach()
    ordered, _ = (standard @ directions.T).sort(dim=1, stable=True)
    places = torch.arange(1, batch + 1, dtype=torch.float64) / (batch + 1)
    quantiles = torch.special.ndtri(places).to(views)[:, None]
    return {
        "location": mean.square().mean(),
        "scale": (deviation - 1.0).square().mean(),
        "shape": (ordered - quantiles).square().mean(),
    }


def objective(outputs: Tensor, batch: int, directions: Tensor, weight: float) -> Objective:
    """`(1 − weight) · invariance + weight · (location + scale + shape)` of `[V·B, d]`, view-major."""
    views = outputs.unflatten(0, (-1, batch))
    pull, spread = invariance(views), terms(views, directions)
    loss = (1.0 - weight) * pull + weight * sum(spread.values())
    return Objective(loss, {"invariance": pull} | spread)


def golden_cases(weight: float) -> dict:
    """The objective's values and its gradient on small cases, in double precision."""
    random = torch.Generator().manual_seed(21)
    views, batch, width = 4, 5, 6

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    inputs = {
        # Off the standard normal in scale and mean.
        "general": (batch, 1.5 * draw(views * batch, width) + 0.3),
        "one_image": (1, draw(views, width)),
        # Differences between rows are far below the root of what is added to variances.
        "near_rows": (batch, draw(1, width) + 1e-3 * draw(views * batch, width)),
        "equal_rows": (batch, draw(1, width).expand(views * batch, -1)),
        "far_rows": (batch, 40.0 * draw(views * batch, width)),
    }
    cases = golden_objective(partial(objective, weight=weight), inputs, random, whole=False)
    return {"cases": [case | {"visreg_weight": weight} for case in cases]}


def main() -> None:
    """Writes the fixtures."""
    fixtures, folder = fixtures_folder(__doc__, "visreg")
    weight = 0.6
    write_json(folder / "objective.json", golden_cases(weight))
    # Statistics of two images would say little.
    settings = {"visreg_weight": weight, "joined_steps": 3}
    write_steps(partial(objective, weight=weight), settings, fixtures, folder)


if __name__ == "__main__":
    main()
