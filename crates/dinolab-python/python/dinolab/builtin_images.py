"""The built-in images, to try things on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dinolab import _dinolab

__all__ = ["Shapes", "shapes"]


class Shapes(NamedTuple):
    """Images of coloured shapes on textured ground."""

    #: uint8 [N, size, size, 3].
    images: NDArray[np.uint8]
    #: The class of each image, [N].
    labels: list[str]


def shapes(count: int, *, size: int = 64, seed: int = 0) -> Shapes:
    """The first `count` images of the built-in set that `train` uses without a folder.

    Sets of different seeds have no image in common.
    """
    return Shapes(*_dinolab.shapes(count, size, seed))
