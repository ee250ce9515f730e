"""Features, tokens and attention maps of images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple, Union

import numpy as np
from numpy.typing import NDArray

from dinolab import _dinolab

__all__ = ["Embedder", "FeatureSet", "Images", "Tokens"]

#: Images of several kinds: an array [H, W, 3] or [N, H, W, 3], a PIL image, a path, or a list of these.
Images = Union["NDArray[np.uint8]", str, "os.PathLike[str]", Any, Sequence[Any]]

Floats = NDArray[np.float32]


class Tokens(NamedTuple):
    """The tokens of one image, or of `N` with `N` in front of all shapes; float32."""

    #: The class token, [D].
    cls: Floats
    #: The mean of the patch tokens, [D].
    mean: Floats
    #: The patch tokens, [rows, columns, D].
    patches: Floats


class FeatureSet(NamedTuple):
    """Features of a set of images, in the order of their names."""

    #: float32 [N, D].
    features: Floats
    #: Paths of the images, within their folder.
    names: list[str]
    #: Classes of the images, None for one without; None for a set without classes.
    labels: list[str | None] | None
    #: Images that cannot be used, with the reasons.
    skipped: list[tuple[str, str]]


class Embedder:
    """A trained network, ready to use.

    `weights` is a run folder, one of its checkpoints, a weight file (.pth or .safetensors), a model folder or
    ``hf:OWNER/NAME``.
    The other arguments are the flags of `dinolab embed`; those left out are as the weights say.

    An array of images is uint8, of shape [H, W, 3] or [N, H, W, 3]; for a network trained on stored pixels it has as
    many channels as the network, and may also be uint16, or float32 in 0–1. PIL images are converted to RGB.
    Images may be of any sizes. Work is done in batches by all cores, without the interpreter's lock.

    Features are those of `dinolab embed` bit for bit, and not normalised.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str],
        *,
        feature: str | None = None,
        n_last_blocks: int | None = None,
        avgpool_patchtokens: bool | None = None,
        resize: int | tuple[int, int] | None = None,
        crop: int | tuple[int, int] | None = None,
        size: int | tuple[int, int] | None = None,
        batch_size: int | None = None,
        checkpoint_key: str | None = None,
        heads: int | None = None,
        position_rule: str | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        device: str | None = None,
        precision: str | None = None,
    ) -> None:
        settings = {
            "feature": feature,
            "n_last_blocks": n_last_blocks,
            "avgpool_patchtokens": avgpool_patchtokens,
            "resize": resize,
            "crop": crop,
            "size": size,
            "batch_size": batch_size,
            "checkpoint_key": checkpoint_key,
            "heads": heads,
            "position_rule": position_rule,
            "mean": mean,
            "std": std,
            "device": device,
            "precision": precision,
        }
        self._settings = settings
        self._native = _dinolab.Embedder(weights, **settings)

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as its weights' path and settings.
        return _restored, (os.path.abspath(self._native.weights), self._settings)

    def embed(self, images: Images) -> Floats:
        """The features of images, float32: [D] of one image, [N, D] of several or of a folder.

        The rows of a folder are in the order of the images' paths. Images of a folder that cannot be used are left
        out with a warning (`embed_folder` lists them); of images given one by one, each has to be usable.
        """
        return self._native.embed(images)

    def embed_folder(self, folder: str | os.PathLike[str]) -> FeatureSet:
        """The features of a folder, list or archive of images, with names and classes (the first level of folders)."""
        return FeatureSet(*self._native.embed_set(folder))

    def tokens(self, images: Images) -> Tokens:
        """Class token, mean patch token and patch tokens after the final norm, of images prepared as for `embed`."""
        return Tokens(*self._native.tokens(images))

    def attention(self, images: Images, size: int | tuple[int, int] | None = None) -> Floats:
        """How much the class token of the last block attends to each patch, by head: float32 [heads, rows, columns] of
        one image, [N, heads, rows, columns] of several.

        Images are resized to a square of side `size`, or to (height, width), and cut to whole patches; 0 leaves
        them as they are. By default the size is that of the run's pictures, or 480.
        """
        sides = size if isinstance(size, (tuple, list)) else [] if size is None else [size]
        return self._native.attention(images, "x".join(map(str, sides)) or None)

    @property
    def width(self) -> int:
        """Width of a feature, D."""
        return self._native.width

    @property
    def token_width(self) -> int:
        """Width of a token."""
        return self._native.token_width

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self._native.patch_size

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return self._native.depth

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self._native.heads

    @property
    def channels(self) -> int:
        """Number of channels of an image."""
        return self._native.channels

    @property
    def feature(self) -> str:
        """What a feature is: "class", "patches" (their mean) or "both"."""
        return self._native.feature

    @property
    def n_last_blocks(self) -> int:
        """Number of last blocks whose features are concatenated."""
        return self._native.n_last_blocks

    @property
    def resize(self) -> tuple[int, int]:
        """Height and width that images are resized to cover."""
        return self._native.resize

    @property
    def crop(self) -> tuple[int, int]:
        """Height and width of the centre that the network sees."""
        return self._native.crop

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        return self._native.grid

    @property
    def mean(self) -> list[float]:
        """Channel means of values in 0–1."""
        return self._native.mean

    @property
    def std(self) -> list[float]:
        """Channel standard deviations of values in 0–1."""
        return self._native.std

    @property
    def batch_size(self) -> int:
        """Images that go through the network together."""
        return self._native.batch_size

    @property
    def device(self) -> str:
        """Where it computes, such as "cpu"."""
        return self._native.device

    def __repr__(self) -> str:
        return (
            f"Embedder({os.fspath(self._native.weights)!r}: patch {self.patch_size}, {self.depth} blocks, "
            f"{self.heads} heads, features of width {self.width})"
        )


def _restored(weights: str, settings: dict[str, Any]) -> Embedder:
    return Embedder(weights, **settings)
