"""Errors: one clear line, of the right class, in the words of the command line."""

from __future__ import annotations

import multiprocessing
import os
import re

import numpy as np
import pytest
from conftest import command, pixels

import dinolab


def refusal(call) -> dinolab.Error:
    with pytest.raises(dinolab.Error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"batch_size": 0}, dinolab.SettingError, "batch_size 0: must be at least 1"),
        ({"epochs": -1}, dinolab.SettingError, "epochs -1: must be above 0"),
        ({"lr": float("nan")}, dinolab.SettingError, "lr NaN: must not be below 0"),
        ({"view": True}, dinolab.SettingError, "`view` is of the command line"),
        ({"epoch": 1}, dinolab.SettingError, "unexpected setting `epoch` found; a similar setting exists: `epochs`"),
        ({"batch_size": "x"}, dinolab.SettingError, "invalid value 'x' for `batch_size`: invalid digit found in string"),
        ({"lr": {}}, dinolab.SettingError, "lr: cannot be of type dict"),
        ({"fresh": 3}, dinolab.SettingError, "fresh: must be True or False"),
        ({"resume": True, "fresh": True}, dinolab.SettingError, "`resume` cannot be used with `fresh`"),
        ({"change_settings": True}, dinolab.SettingError, "resume"),
        ({"resume": True}, dinolab.RunError, "holds no checkpoint; leave `resume` out to begin a run"),
        ({"weights": "nothing.pth"}, dinolab.WeightsError, "nothing.pth"),
        ({"accumulate": 2, "use_bn_in_head": True}, dinolab.SettingError, "with `use_bn_in_head` true"),
        ({"device": "abacus"}, dinolab.Error, "abacus"),
    ],
)
def test_settings_out_of_their_range_are_refused(tmp_path, photographs, tiny, settings, kind, text):
    given = {**tiny, **settings}
    if "resume" in settings:
        given = settings
    error = refusal(lambda: dinolab.train(photographs, out=tmp_path / "run", **given))
    assert isinstance(error, kind), type(error)
    assert text in str(error)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_sentences_are_those_of_the_command_line(tmp_path, photographs, tiny):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    out = tmp_path / "run"
    for name, value in [("batch_size", 0), ("teacher_temp", -1), ("global_crops_size", "33x40")]:
        flag = f"--{name.replace('_', '-')}={value}"
        done = command("train", photographs, "--out", out, *[f for f in flags if not f.startswith(flag.split("=")[0])], flag)
        assert done.returncode == 2
        error = refusal(lambda: dinolab.train(photographs, out=out, **{**tiny, name: value}))
        expected = done.stderr.strip().removeprefix("error: --")
        assert str(error) == expected.replace(name.replace("_", "-"), name, 1)


def test_advice_can_be_followed(tmp_path, photographs, tiny, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = "it's a run"
    dinolab.train(photographs, out=out, stop_after_epochs=1, **tiny).finish()
    error = refusal(lambda: dinolab.train(photographs, out=out, **{**tiny, "lr": 0.002}))
    assert isinstance(error, dinolab.RunError)
    calls = re.findall(r"dinolab\.train\(.*?\)(?=;|$)", str(error))
    assert calls == [
        r"dinolab.train(out='it\'s a run', resume=True)",
        r"dinolab.train(out='it\'s a run', resume=True, change_settings=True, lr=0.002)",
    ]
    for call in calls:
        with eval(call) as run:
            assert next(run).resumed_from == 3
    assert "`out`" in str(error) and "`fresh`" in str(error) and "--" not in str(error)


def test_a_run_in_use_is_refused(tmp_path, photographs, tiny):
    out = tmp_path / "run"
    with dinolab.train(photographs, out=out, **tiny) as run:
        next(run)
        done = command("train", photographs, "--out", out, "--resume")
        assert done.returncode == 1
        assert "is in use by" in done.stderr


def test_other_images_are_refused(tmp_path, photographs, trained, tiny):
    error = refusal(lambda: dinolab.train(photographs / "cats", out=trained, **tiny))
    assert isinstance(error, dinolab.RunError)
    assert "other images" in str(error)


def test_a_loss_that_is_no_number_is_reported(tmp_path, photographs, tiny):
    settings = {**tiny, "lr": 1e30, "clip_grad": 0, "warmup_epochs": 0, "epochs": 20}
    error = refusal(lambda: dinolab.train(photographs, out=tmp_path / "run", **settings).finish())
    assert isinstance(error, dinolab.DivergedError) and isinstance(error, ArithmeticError)
    assert "step" in str(error) and "dinolab.train(" in str(error)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((8, 8)), "an array of float64; give uint8, values 0–255"),
        (np.zeros((8, 8), np.uint8), "shape [8, 8]; give [H, W, 3] or [N, H, W, 3]"),
        (np.zeros((8, 8, 4), np.uint8), "shape [8, 8, 4]; give [H, W, 3] or [N, H, W, 3]"),
        (np.zeros((2, 0, 8, 3), np.uint8), "an image has no pixels"),
        (np.zeros((1, 2, 8, 8, 3), np.uint8), "give [H, W, 3] or [N, H, W, 3]"),
        ([np.zeros((2, 8, 8, 3), np.uint8)], "give [H, W, 3] or [N, H, W, 3]"),
        ({}, "of type dict; give a NumPy array, a PIL image, a path, a list of these, or a folder"),
        (None, "of type NoneType"),
        ([3], "of type int"),
        ("nowhere", "cannot read nowhere"),
        (["nowhere.jpg"], "cannot read nowhere.jpg"),
    ],
)
def test_what_is_no_image_is_refused(embedder, images, text):
    error = refusal(lambda: embedder.embed(images))
    assert isinstance(error, dinolab.ImageError) and isinstance(error, ValueError)
    assert text in str(error)


def test_tokens_are_of_images_given_one_by_one(photographs, embedder):
    for call in (embedder.tokens, embedder.attention):
        error = refusal(lambda: call(photographs))
        assert "give images or a list of paths" in str(error)
    error = refusal(lambda: embedder.attention([pixels(0), pixels(1, 80)], size=0))
    assert "different sizes" in str(error)
    for size in ("wide", (3,), -1, (0, 8), 3, 10**9):
        assert refusal(lambda: embedder.attention(pixels(0), size=size))


@pytest.mark.parametrize(
    ("settings", "kind", "text"),
    [
        ({"feature": "best"}, dinolab.SettingError, "`feature`"),
        ({"n_last_blocks": 9}, dinolab.SettingError, "n_last_blocks: must be 1 to 2, the network's depth, not 9"),
        ({"crop": 4}, dinolab.SettingError, "crop 4: is smaller than a patch of 8"),
        ({"size": 10**5}, dinolab.SettingError, "`size`"),
        ({"size": 32, "crop": 32}, dinolab.SettingError, "cannot be used with"),
        ({"batch_size": -1}, dinolab.SettingError, "`batch_size`"),
        ({"checkpoint_key": "network"}, dinolab.WeightsError, "choose by `checkpoint_key` teacher"),
        ({"device": "abacus"}, dinolab.Error, "abacus"),
        ({"precision": "f8"}, dinolab.SettingError, "one of f32, bf16"),
    ],
)
def test_embedders_refuse_what_does_not_fit(trained, settings, kind, text):
    error = refusal(lambda: dinolab.Embedder(trained, **settings))
    assert isinstance(error, kind), type(error)
    assert text in str(error)


def test_weights_that_are_none_are_refused(tmp_path, photographs):
    missing = refusal(lambda: dinolab.Embedder(tmp_path / "nothing"))
    assert isinstance(missing, dinolab.WeightsError)
    assert "no such file or folder; give a run folder" in str(missing)
    file = tmp_path / "text.pth"
    file.write_text("no weights")
    for call in (dinolab.Embedder, dinolab.load):
        assert isinstance(refusal(lambda: call(file)), dinolab.WeightsError)
        assert isinstance(refusal(lambda: call(photographs)), dinolab.WeightsError)


def attempt(call, queue):
    try:
        call()
        queue.put("done")
    except dinolab.Error as error:
        queue.put(str(error))


@pytest.mark.skipif(os.name != "posix", reason="fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_without_the_threads_says_so_instead_of_waiting(embedder, trained):
    embedder.embed(pixels(0))
    fork = multiprocessing.get_context("fork")
    calls = [
        lambda: embedder.embed(pixels(0)),
        lambda: embedder.tokens(pixels(0)),
        lambda: embedder.attention(pixels(0)),
        lambda: dinolab.Embedder(trained),
        lambda: dinolab.load(trained),
        lambda: dinolab.knn(np.eye(2), [0, 1], np.eye(2), [0, 1]),
        lambda: dinolab.linear(np.eye(2), [0, 1], np.eye(2), [0, 1]),
        lambda: dinolab.train(out=trained, resume=True),
    ]
    for call in calls:
        queue = fork.SimpleQueue()
        process = fork.Process(target=attempt, args=(call, queue))
        process.start()
        process.join(timeout=20)
        assert process.exitcode == 0
        assert "start processes with multiprocessing's method `spawn`" in queue.get()
