"""Weights as arrays."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from conftest import command

import dinolab


def safetensors(path) -> dict:
    """The arrays of a safetensors file."""
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    arrays = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            values = np.frombuffer(content[8 + length :][begin:end], np.float32)
            arrays[name] = values.reshape(entry["shape"])
    return arrays


@pytest.mark.parametrize("names", ["reference", "timm", "hf"])
def test_arrays_are_what_convert_writes(tmp_path, trained, names):
    out = tmp_path / "weights.safetensors"
    done = command("convert", trained, out, "--to", names)
    assert done.returncode == 0, done.stderr
    expected = safetensors(out)
    arrays = dinolab.load(trained, names)
    assert arrays.keys() == expected.keys()
    for name, array in arrays.items():
        assert array.dtype == np.float32
        assert np.array_equal(array, expected[name]), name


def test_names_are_those_of_the_reference_by_default(trained):
    arrays = dinolab.load(trained)
    assert arrays["blocks.1.attn.qkv.weight"].shape == (96, 32)
    assert arrays["pos_embed"].shape == (1, 17, 32)


def test_each_network_of_a_checkpoint_can_be_loaded(trained):
    teacher = dinolab.load(trained, checkpoint_key="teacher")
    student = dinolab.load(trained, checkpoint_key="student")
    assert np.array_equal(teacher["cls_token"], dinolab.load(trained)["cls_token"])
    assert not np.array_equal(teacher["cls_token"], student["cls_token"])


def test_unknown_names_are_refused(trained):
    with pytest.raises(dinolab.SettingError, match="names keras: must be reference, timm or hf"):
        dinolab.load(trained, "keras")
    with pytest.raises(dinolab.SettingError, match="one of teacher, student, average, network"):
        dinolab.load(trained, checkpoint_key="pupil")


def test_pytorch_takes_the_arrays(trained):
    torch = pytest.importorskip("torch")
    layer = torch.nn.Linear(32, 96)
    arrays = dinolab.load(trained)
    state = {part: torch.from_numpy(arrays[f"blocks.0.attn.qkv.{part}"]) for part in ("weight", "bias")}
    layer.load_state_dict(state)
    assert np.array_equal(layer.weight.detach().numpy(), arrays["blocks.0.attn.qkv.weight"])


def test_a_model_of_the_hub_is_read_from_the_shared_cache(tmp_path, trained, monkeypatch):
    """As another program has downloaded it, without a network."""
    commit = "0123456789" * 4
    model = tmp_path / "models--o--n"
    done = command("convert", trained, model / "snapshots" / commit, "--to", "hf")
    assert done.returncode == 0, done.stderr
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(commit)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    arrays = dinolab.load("hf:o/n")
    for name, array in dinolab.load(trained).items():
        assert np.array_equal(arrays[name], array), name
    assert dinolab.Embedder(f"hf:o/n@{commit}").width == 32
    with pytest.raises(dinolab.WeightsError, match="HF_HUB_OFFLINE"):
        dinolab.load("hf:o/other")
