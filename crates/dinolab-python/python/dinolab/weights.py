"""Weights as arrays."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from dinolab import _dinolab

__all__ = ["load"]


def load(
    weights: str | os.PathLike[str],
    names: str = "reference",
    *,
    checkpoint_key: str | None = None,
    heads: int | None = None,
) -> dict[str, NDArray[np.float32]]:
    """The arrays of a backbone by the names of another program: "reference" (facebookresearch/dino, or DINOv2 for a
    network with layer scale), "timm" or "hf" (Hugging Face).

    Load them into a PyTorch model with
    `model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})`.
    `checkpoint_key` chooses a network of a training checkpoint: teacher, student, average or network.
    """
    return _dinolab.load(weights, names, checkpoint_key, heads)
