"""Features, tokens and attention maps."""

from __future__ import annotations

import pickle
import shutil
import signal
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import command, pixels

import dinolab


def by_command(tmp_path: Path, weights: Path, images: Path, *flags: str) -> np.ndarray:
    out = tmp_path / "features.npy"
    done = command("embed", "--weights", weights, images, "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    return np.load(out)


def test_a_folder_is_embedded_as_by_the_command_line(tmp_path, trained, photographs, embedder):
    expected = by_command(tmp_path, trained, photographs)
    features = embedder.embed(photographs)
    assert features.dtype == np.float32
    assert features.shape == (18, embedder.width) == (18, 32)
    assert np.array_equal(features, expected)
    assert len(np.unique(features, axis=0)) == 18


@pytest.mark.parametrize(
    ("settings", "flags"),
    [
        ({"feature": "both"}, ["--feature", "both"]),
        ({"n_last_blocks": 2}, ["--n-last-blocks", "2"]),
        ({"avgpool_patchtokens": True}, ["--avgpool-patchtokens", "true"]),
        ({"crop": 24, "resize": 32}, ["--crop", "24", "--resize", "32"]),
        ({"size": (24, 40)}, ["--size", "24x40"]),
        ({"checkpoint_key": "student"}, ["--checkpoint-key", "student"]),
        ({"mean": [0.5] * 3, "std": 0.25}, None),
        ({"batch_size": 5}, ["--batch-size", "5"]),
    ],
)
def test_settings_are_the_flags(tmp_path, trained, photographs, settings, flags):
    if flags is None:
        with pytest.raises(dinolab.Error, match="std: 1 numbers for a network of 3 channels"):
            dinolab.Embedder(trained, **settings)
        return
    features = dinolab.Embedder(trained, **settings).embed(photographs)
    assert np.array_equal(features, by_command(tmp_path, trained, photographs, *flags))


def test_arrays_paths_and_lists_are_embedded_alike(photographs, embedder):
    found = embedder.embed_folder(photographs)
    assert found.names == sorted(found.names)
    assert found.labels == [name.split("/")[0] for name in found.names]
    assert found.skipped == []
    paths = [photographs / name for name in found.names]
    assert np.array_equal(embedder.embed(paths), found.features)
    assert np.array_equal(embedder.embed([str(path) for path in paths]), found.features)
    arrays = [pixels(int(path.stem), 40 + 8 * (int(path.stem) % 3)) for path in paths]
    assert np.array_equal(embedder.embed(arrays), found.features)
    mixed = [array if place % 2 else paths[place] for place, array in enumerate(arrays)]
    assert np.array_equal(embedder.embed(mixed), found.features)
    assert embedder.embed(arrays[0]).shape == (embedder.width,)
    assert np.array_equal(embedder.embed(arrays[0]), found.features[0])
    assert np.array_equal(embedder.embed(paths[7]), found.features[7])


def test_an_array_of_images_is_embedded_row_by_row(embedder):
    images = np.stack([pixels(seed) for seed in range(40)])
    features = embedder.embed(images)
    assert features.shape == (40, embedder.width)
    assert np.array_equal(features, embedder.embed(list(images)))
    # Whatever the strides.
    backwards = images[::-1, :, ::-1]
    assert np.array_equal(embedder.embed(backwards), embedder.embed(backwards.copy()))
    assert embedder.embed(images[:0]).shape == (0, embedder.width)
    assert embedder.embed([]).shape == (0, embedder.width)


def test_pictures_of_pil_are_converted_to_rgb(embedder):
    image = pytest.importorskip("PIL.Image")
    picture = image.fromarray(pixels(3))
    assert np.array_equal(embedder.embed(picture), embedder.embed(pixels(3)))
    grey = picture.convert("L")
    expected = embedder.embed(np.asarray(grey.convert("RGB")))
    assert np.array_equal(embedder.embed([grey])[0], expected)


def test_patch_tokens_are_those_of_the_command_line(tmp_path, trained, photographs, embedder):
    expected = by_command(tmp_path, trained, photographs, "--patch-tokens")
    paths = [photographs / name for name in embedder.embed_folder(photographs).names]
    tokens = embedder.tokens(paths)
    assert np.array_equal(tokens.patches, expected)
    assert tokens.patches.shape == (18, *embedder.grid, 32)
    assert np.allclose(tokens.mean, tokens.patches.mean(axis=(1, 2)), atol=1e-5)
    assert np.allclose(tokens.cls, embedder.embed(paths), atol=1e-5)
    one = embedder.tokens(paths[4])
    assert one.cls.shape == one.mean.shape == (32,)
    assert np.array_equal(one.patches, tokens.patches[4])


def test_attention_maps_are_those_of_the_command_line(tmp_path, trained, embedder):
    from dinolab import _dinolab

    file = tmp_path / "image.png"
    _dinolab.write_png(file, pixels(1))
    done = command("attend", "--weights", trained, file, "--out", tmp_path / "maps")
    assert done.returncode == 0, done.stderr
    expected = np.load(tmp_path / "maps" / "image-attention.npy")
    assert np.array_equal(embedder.attention(pixels(1)), expected)
    maps = embedder.attention([pixels(1), pixels(2)], size=(32, 48))
    assert maps.shape == (2, embedder.heads, 4, 6)
    assert not np.array_equal(maps[0], maps[1])
    # Of the image's own size, and what is left of the attention is the class token's own.
    own = embedder.attention(pixels(1), size=0)
    assert own.shape == (2, 5, 7)
    assert np.all(own >= 0) and np.all(own.sum(axis=(1, 2)) < 1)


def test_properties_describe_the_network(trained, embedder):
    assert (embedder.width, embedder.token_width, embedder.patch_size) == (32, 32, 8)
    assert (embedder.depth, embedder.heads, embedder.channels) == (2, 2, 3)
    assert (embedder.crop, embedder.grid, embedder.feature) == ((32, 32), (4, 4), "class")
    assert embedder.batch_size == 32 and embedder.device == "cpu"
    assert dinolab.Embedder(trained, feature="both").width == 64
    assert "patch 8" in repr(embedder)


def test_images_of_a_folder_that_cannot_be_used_are_left_out_with_a_warning(
    tmp_path, photographs, embedder
):
    folder = tmp_path / "mixed"
    shutil.copytree(photographs / "cats", folder)
    (folder / "broken.png").write_bytes(b"not a picture")
    with pytest.warns(UserWarning, match="1 images of .* are left out; the first, broken.png") as told:
        features = embedder.embed(folder)
    assert told[0].filename == __file__
    assert len(features) == 9
    found = embedder.embed_folder(folder)
    assert [name for name, _ in found.skipped] == ["broken.png"]
    # Of images given one by one, none may be missing.
    with pytest.raises(dinolab.ImageError, match="broken.png"):
        embedder.embed([pixels(0), folder / "broken.png"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(embedder.embed(photographs)) == 18


def test_other_threads_run_while_images_are_embedded(embedder):
    images = np.stack([pixels(seed) for seed in range(400)])
    count, done = 0, threading.Event()

    def counting():
        nonlocal count
        while not done.is_set():
            count += 1
            done.wait(0.001)

    thread = threading.Thread(target=counting)
    thread.start()
    before = count
    embedder.embed(images)
    during = count - before
    done.set()
    thread.join()
    assert during > 3


def test_ctrl_c_is_heard_between_batches(embedder):
    images = np.broadcast_to(pixels(0), (300_000, 40, 56, 3))
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        embedder.embed(images)
    assert time.monotonic() - began < 10


def test_features_that_do_not_fit_in_memory_are_an_error(embedder):
    with pytest.raises(MemoryError, match="no memory for"):
        embedder.tokens(np.broadcast_to(pixels(0), (10**13, 40, 56, 3)))


def test_an_embedder_may_be_used_by_several_threads(embedder):
    images = [np.stack([pixels(seed) for seed in range(start, start + 30)]) for start in (0, 100)]
    expected = [embedder.embed(part) for part in images]
    found = [None, None]

    def embed(place):
        found[place] = embedder.embed(images[place])

    threads = [threading.Thread(target=embed, args=(place,)) for place in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(a, b) for a, b in zip(expected, found))


def test_embedders_are_pickled_by_path_and_settings(trained):
    embedder = dinolab.Embedder(trained, feature="both")
    again = pickle.loads(pickle.dumps(embedder))
    assert np.array_equal(again.embed(pixels(0)), embedder.embed(pixels(0)))


def test_networks_for_stored_pixels_take_arrays_of_their_channels(tmp_path, tiny):
    folder = tmp_path / "stored"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(6):
        np.save(folder / f"{number}.npy", random.integers(0, 65536, (40, 40, 2), dtype=np.uint16))
    dinolab.train(folder, out=tmp_path / "run", in_chans=2, **tiny).finish()
    embedder = dinolab.Embedder(tmp_path / "run")
    expected = embedder.embed(folder)
    arrays = np.stack([np.load(folder / f"{number}.npy") for number in range(6)])
    assert embedder.channels == 2
    assert np.array_equal(embedder.embed(arrays), expected)
    floats = (arrays / 65535).astype(np.float32)
    assert np.allclose(embedder.embed(floats), expected, atol=1e-3)
    with pytest.raises(dinolab.ImageError, match=r"give \[H, W, 2\] or \[N, H, W, 2\]"):
        embedder.embed(pixels(0))
