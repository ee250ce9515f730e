"""Learn vision features from unlabelled images, and use them, with NumPy arrays.

>>> import dinolab
>>> for event in dinolab.train("photos", out="runs/photos"):
...     print(event)
>>> features = dinolab.Embedder("runs/photos").embed("photos")

The package brings the command line ``dinolab`` along (also as ``python -m dinolab``). Both share weights,
run folders, settings and results.
"""

from dinolab import events
from dinolab.embedding import Embedder, FeatureSet, Tokens
from dinolab.errors import (
    DivergedError,
    Error,
    ImageError,
    RunError,
    SettingError,
    UnreachableError,
    WeightsError,
)
from dinolab.evaluation import KnnResult, LinearResult, knn, linear
from dinolab.builtin_images import Shapes, shapes
from dinolab.training import Run, settings, train
from dinolab.weights import load

__all__ = [
    "DivergedError",
    "Embedder",
    "Error",
    "FeatureSet",
    "ImageError",
    "KnnResult",
    "LinearResult",
    "Run",
    "RunError",
    "SettingError",
    "Shapes",
    "Tokens",
    "UnreachableError",
    "WeightsError",
    "events",
    "knn",
    "linear",
    "load",
    "settings",
    "shapes",
    "train",
]
