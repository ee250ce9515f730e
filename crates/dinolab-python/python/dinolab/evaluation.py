"""Evaluation of features: weighted k-NN and a linear classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dinolab import _dinolab
from dinolab.errors import Error

__all__ = ["KnnResult", "LinearResult", "knn", "linear"]


@dataclass(frozen=True)
class KnnResult:
    """Accuracies of weighted k-NN in percent."""

    top1: float
    top5: float
    #: The class of each test row, [N].
    predicted: NDArray[Any]


@dataclass(frozen=True)
class LinearResult:
    """A linear classifier on frozen features, and its accuracy in percent after the last epoch."""

    top1: float
    #: None for fewer than five classes.
    top5: float | None
    #: The learning rate that was best on the test rows.
    lr: float
    #: The class of each test row, [N].
    predicted: NDArray[Any]
    #: The classes, [K].
    classes: NDArray[Any]
    #: float32 [K, D].
    weight: NDArray[np.float32]
    #: float32 [K].
    bias: NDArray[np.float32]
    #: Epoch (from 1), loss, top-1 and top-5 of each epoch.
    history: list[tuple[int, float, float, float | None]]


def knn(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    k: int = 20,
    temperature: float = 0.07,
) -> KnnResult:
    """Classify test features [M, D] by the `k` most similar train features [N, D], as `dinolab eval knn`.

    Features are L2-normalised here. Labels may be numbers or text. A neighbour's vote is
    exp(similarity / temperature).
    """
    classes, numbers, test_numbers = _numbered(train_labels, test_labels)
    found = _dinolab.knn(
        _features("train", train, numbers),
        numbers,
        _features("test", test, test_numbers),
        test_numbers,
        [k],
        temperature,
    )
    top1, top5, predicted = found[0]
    return KnnResult(top1, top5, classes[predicted])


def linear(
    train: ArrayLike,
    train_labels: ArrayLike,
    test: ArrayLike,
    test_labels: ArrayLike,
    *,
    lr: float | Sequence[float] = (0.001, 0.01, 0.1),
    epochs: int = 100,
    batch_size: int = 128,
    seed: int = 0,
    standardise: bool = False,
) -> LinearResult:
    """Train a linear classifier on train features [N, D] and evaluate it on test features, as `dinolab eval linear`.

    SGD with momentum and a cosine schedule. Of several learning rates, each for a batch of 256, the best is returned.
    `standardise` brings features to zero mean and unit variance over the train rows; `weight` and `bias` then apply to
    features as given.
    """
    classes, numbers, test_numbers = _numbered(train_labels, test_labels)
    rates = [float(rate) for rate in np.atleast_1d(np.asarray(lr, dtype=np.float64))]
    chosen, runs = _dinolab.linear(
        _features("train", train, numbers),
        numbers,
        _features("test", test, test_numbers),
        test_numbers,
        len(classes),
        rates,
        epochs,
        batch_size,
        seed,
        standardise,
    )
    best = runs[chosen]
    _, _, top1, top5 = best["history"][-1]
    return LinearResult(
        top1=top1,
        top5=top5,
        lr=best["lr"],
        predicted=classes[best["predicted"]],
        classes=classes,
        weight=best["weight"],
        bias=best["bias"],
        history=best["history"],
    )


def _features(name: str, features: ArrayLike, labels: list[int]) -> NDArray[np.float32]:
    array = np.require(features, np.float32, ["C", "A"])
    if array.ndim != 2:
        raise Error(f"{name}: features of shape {list(array.shape)}; give [N, D]")
    if len(array) != len(labels):
        raise Error(f"{name}: {len(array)} features and {len(labels)} labels")
    return array


def _numbered(
    train_labels: ArrayLike, test_labels: ArrayLike
) -> tuple[NDArray[Any], list[int], list[int]]:
    """The classes of the train rows, and the numbers of all rows' classes. Classes of test rows alone get further
    numbers, which are never predicted."""
    train_array, test_array = np.asarray(train_labels), np.asarray(test_labels)
    for name, array in (("train_labels", train_array), ("test_labels", test_array)):
        if array.ndim != 1:
            raise Error(f"{name}: labels of shape {list(array.shape)}; give [N]")
    classes, numbers = np.unique(train_array, return_inverse=True)
    known = {label: number for number, label in enumerate(classes.tolist())}
    test_numbers = [known.setdefault(label, len(known)) for label in test_array.tolist()]
    return classes, numbers.tolist(), test_numbers
