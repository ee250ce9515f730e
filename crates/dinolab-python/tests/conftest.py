"""Images and runs that the tests share. Everything is made here; nothing is downloaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import dinolab
from dinolab import _dinolab

#: A run of a few steps of a tiny network.
TINY = {
    "recipe": "paper",
    "method": "dino",
    "arch": "custom",
    "width": 32,
    "depth": 2,
    "heads": 2,
    "patch_size": 8,
    "global_crops_size": 32,
    "local_crops_size": 16,
    "local_crops_number": 2,
    "out_dim": 64,
    "head_hidden_dim": 32,
    "epochs": 2,
    "batch_size": 6,
    "eval_every": 0,
}


def pixels(seed: int, height: int = 40, width: int = 56) -> np.ndarray:
    """An image [height, width, 3] of smooth noise."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


@pytest.fixture
def tiny() -> dict:
    return dict(TINY)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory) -> Path:
    """Eighteen images of two classes, of several sizes."""
    root = tmp_path_factory.mktemp("images") / "photographs"
    for number in range(18):
        folder = root / ("cats" if number % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        image = pixels(number, 40 + 8 * (number % 3))
        _dinolab.write_png(folder / f"{number:02}.png", image)
    return root


@pytest.fixture(scope="session")
def trained(tmp_path_factory, photographs) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "trained"
    dinolab.train(photographs, out=out, **TINY).finish()
    return out


@pytest.fixture(scope="session")
def embedder(trained) -> dinolab.Embedder:
    return dinolab.Embedder(trained)


def command(*arguments, cwd=None) -> subprocess.CompletedProcess:
    """Runs the command line in a process of its own."""
    line = [sys.executable, "-m", "dinolab", *map(os.fspath, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, timeout=300)
