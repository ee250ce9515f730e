"""A transformer for scikit-learn: from images to features.

Importing this module needs scikit-learn; the rest of the package does not.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from dinolab import _dinolab
from dinolab.embedding import Embedder, Images
from dinolab.errors import ImageError, SettingError
from dinolab.training import train

__all__ = ["DinoFeatures"]


class DinoFeatures(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Features of images, from weights that exist or are trained in `fit`.

    Parameters
    ----------
    weights : path, default=None
        A run folder, checkpoint, weight file, model folder or hf:OWNER/NAME. If None, `fit` trains on its images.
    out : path, default=None
        The run's folder if `fit` trains; a run that is there already is resumed, or used if it is
        finished. If None, a temporary folder, which lasts as long as the estimator.
    settings : dict, default=None
        Settings of the run if `fit` trains, as of `dinolab.train`.
    feature : {"class", "patches", "both"}, default=None
        What a feature is made of. If None, what the weights were trained on.
    n_last_blocks : int, default=None
        Concatenate the features of the last blocks.
    normalise : bool, default=False
        L2-normalise features.
    batch_size : int, default=32
        Images that go through the network together.

    Attributes
    ----------
    embedder_ : dinolab.Embedder
        The network.
    n_features_out_ : int
        Width of a feature.

    Images are what `dinolab.Embedder.embed` takes: an array [N, H, W, 3], a list, or a folder. To train, images
    that are not files are written as PNG files next to the run.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        settings: dict[str, Any] | None = None,
        feature: str | None = None,
        n_last_blocks: int | None = None,
        normalise: bool = False,
        batch_size: int = 32,
    ) -> None:
        self.weights = weights
        self.out = out
        self.settings = settings
        self.feature = feature
        self.n_last_blocks = n_last_blocks
        self.normalise = normalise
        self.batch_size = batch_size

    def fit(self, X: Images, y: Any = None) -> DinoFeatures:
        """Loads the weights, or trains on images. Labels are not used."""
        weights = self.weights
        if weights is None:
            weights = self._trained(X)
        elif self.out is not None or self.settings is not None:
            raise SettingError("weights: are given, so nothing is trained; leave `out` and `settings` out")
        self.embedder_ = Embedder(
            weights,
            feature=self.feature,
            n_last_blocks=self.n_last_blocks,
            batch_size=self.batch_size,
        )
        self._n_features_out = self.embedder_.width
        return self

    def transform(self, X: Images) -> NDArray[np.float32]:
        """The features of images, float32 [N, D]."""
        check_is_fitted(self, "embedder_")
        features = np.atleast_2d(self.embedder_.embed(X))
        if self.normalise:
            lengths = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.maximum(lengths, np.float32(1e-12))
        return features

    @property
    def n_features_out_(self) -> int:
        """Width of a feature."""
        return self._n_features_out

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _trained(self, X: Images) -> Path:
        """The folder of a finished run on images."""
        out = self.out
        if out is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="dinolab-")
            out = Path(self._temporary.name) / "run"
        images = _files(X, Path(os.fspath(out)).absolute())
        with train(images, out=out, **(self.settings or {})) as run:
            run.finish()
        return Path(out)


def _files(images: Images, run: Path) -> Path:
    """Images as a folder or list of files; those that are not files are written next to the run."""
    if isinstance(images, (str, os.PathLike)):
        return Path(images)
    images = list(images)
    if not images:
        raise ImageError("images: there are none to train on")
    folder = run.with_name(run.name + "-images")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, image in enumerate(images):
        if isinstance(image, (str, os.PathLike)):
            paths.append(Path(image).absolute())
            continue
        path = folder / f"{number:08}.png"
        _dinolab.write_png(path, image)
        paths.append(path)
    listed = folder / "images.txt"
    listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return listed
