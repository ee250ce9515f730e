"""LeJEPA's loss in PyTorch, derived from the formulas alone, and the golden numbers from it.

    python lejepa.py ../../crates/dinolab-train/tests/fixtures

writes the golden numbers into the subfolder `lejepa`, whose README.md describes them. Network and
training step are those of `joint_embedding.py`.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from joint_embedding import (
    Objective,
    fixtures_folder,
    golden_head,
    golden_objective,
    invariance,
    write_json,
    write_steps,
)

KNOTS = 17
LAST_KNOT = 3.0


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
    return Objective((1.0 - weight) * pull + weight * spread, {"invariance": pull, "sigreg": spread})


def golden_cases(weight: float) -> dict:
    """The objective's values and its gradient on small cases, in double precision."""
    random = torch.Generator().manual_seed(11)
    views, batch, width = 4, 5, 6

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    row = draw(1, width)
    inputs = {
        # Off the standard normal in scale and mean.
        "general": (batch, 1.5 * draw(views * batch, width) + 0.3),
        "one_image": (1, draw(views, width)),
        "equal_rows": (batch, row.expand(views * batch, -1)),
        "zero_rows": (batch, torch.zeros(views * batch, width, dtype=torch.float64)),
        # The largest angles are some hundreds.
        "far_rows": (batch, 40.0 * draw(views * batch, width)),
    }
    cases = golden_objective(partial(objective, weight=weight), inputs, random)
    return {"cases": [case | {"sigreg_weight": weight} for case in cases]}


def main() -> None:
    """Writes the fixtures."""
    fixtures, folder = fixtures_folder(__doc__, "lejepa")
    weight = 0.05
    write_json(folder / "objective.json", golden_cases(weight))
    write_json(folder / "head.json", golden_head())
    write_steps(partial(objective, weight=weight), {"sigreg_weight": weight}, fixtures, folder)


if __name__ == "__main__":
    main()
