"""The built-in shapes, and the package itself."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import dinolab
from dinolab import _dinolab


def test_shapes_are_images_with_classes():
    images, labels = dinolab.shapes(12, size=48, seed=3)
    assert images.shape == (12, 48, 48, 3) and images.dtype == np.uint8
    assert len(labels) == 12 and len(set(labels)) > 2
    again = dinolab.shapes(8, size=48, seed=3)
    assert np.array_equal(again.images, images[:8]) and again.labels == labels[:8]
    assert not np.array_equal(dinolab.shapes(8, size=48, seed=4).images, images[:8])
    with pytest.raises(dinolab.Error):
        dinolab.shapes(1, size=0)


def test_png_files_hold_the_pixels(tmp_path):
    image_of = pytest.importorskip("PIL.Image")
    images = dinolab.shapes(1).images
    _dinolab.write_png(tmp_path / "shape.png", images[0])
    assert np.array_equal(np.asarray(image_of.open(tmp_path / "shape.png")), images[0])
    with pytest.raises(dinolab.Error, match="shape.png"):
        _dinolab.write_png(tmp_path / "shape.png" / "below.png", images[0])


def test_everything_public_is_documented_and_typed():
    assert (Path(dinolab.__file__).parent / "py.typed").exists()
    for name in dinolab.__all__:
        value = getattr(dinolab, name)
        assert inspect.getdoc(value), name
        if inspect.isfunction(value):
            signature = inspect.signature(value)
            assert signature.return_annotation is not inspect.Signature.empty, name


def test_the_types_of_settings_are_of_all_flags():
    stub = (Path(dinolab.__file__).parent / "_settings.pyi").read_text(encoding="utf-8")
    typed = re.findall(r"^    (\w+): ", stub, re.MULTILINE)
    arguments = ["out", "config", "resume", "change_settings", "fresh"]
    assert arguments + typed == list(dinolab.settings())


def test_the_stub_names_what_the_native_module_has():
    stub = (Path(dinolab.__file__).parent / "_dinolab.pyi").read_text(encoding="utf-8")
    native = {name for name in dir(_dinolab) if not name.startswith("_")}
    declared = {line.split()[1].split("(")[0].rstrip(":") for line in stub.splitlines() if line.startswith(("def ", "class "))}
    assert native == declared
    for kind in (_dinolab.Embedder, _dinolab.Run):
        body = stub.split(f"class {kind.__name__}:")[1].split("\nclass ")[0].split("\ndef train_settings")[0]
        members = {name for name in vars(kind) if not name.startswith("_")}
        stubbed = {line.split("def ")[1].split("(")[0] for line in body.splitlines() if "def " in line and "__" not in line}
        assert members == stubbed
