"""k-NN and the linear classifier on arrays."""

from __future__ import annotations

import json

import numpy as np
import pytest
from conftest import command

import dinolab


def clusters(seed: int, rows: int = 60):
    """Features [rows, 8] around three directions, and their classes."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, rows)
    features = np.eye(8)[labels] + 0.5 * random.standard_normal((rows, 8))
    return features.astype(np.float32), np.array(["ash", "birch", "cedar"])[labels]


def votes(train, train_labels, test, k, temperature):
    """Weighted k-NN, written out in double precision."""
    unit = lambda rows: rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)
    similar = unit(test) @ unit(train).T
    classes = np.unique(train_labels)
    predicted = []
    for row in similar:
        nearest = np.argsort(-row, kind="stable")[:k]
        weight = np.exp(row[nearest] / temperature)
        totals = [weight[train_labels[nearest] == name].sum() for name in classes]
        predicted.append(classes[int(np.argmax(totals))])
    return np.array(predicted)


def test_knn_is_the_vote_of_similar_rows():
    (train, names), (test, truth) = clusters(0), clusters(1, 40)
    for k, temperature in [(1, 0.07), (5, 0.07), (20, 1.0)]:
        found = dinolab.knn(train, names, test, truth, k=k, temperature=temperature)
        expected = votes(train, names, test, k, temperature)
        assert found.predicted.tolist() == expected.tolist()
        assert found.top1 == pytest.approx(100 * np.mean(expected == truth))
        assert 50 < found.top1 < 100
        # Of one neighbour there is one class.
        assert found.top5 == (found.top1 if k == 1 else pytest.approx(100, abs=20))


def test_classes_of_test_rows_alone_are_never_predicted():
    train, names = clusters(0)
    found = dinolab.knn(train, names, train[:10], ["yew"] * 10, k=3)
    assert found.top1 == 0 and set(found.predicted) <= {"ash", "birch", "cedar"}


def test_the_command_line_finds_the_same(tmp_path):
    (train, names), (test, truth) = clusters(0), clusters(1, 40)
    for name, (features, labels) in {"train": (train, names), "val": (test, truth)}.items():
        np.save(tmp_path / f"{name}.npy", features)
        (tmp_path / f"{name}.labels.txt").write_text("".join(f"{label}\n" for label in labels))
    inputs = ["--train", tmp_path / "train.npy", "--val", tmp_path / "val.npy", "--json"]
    done = command("eval", "knn", *inputs, "--k", "5")
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)["knn"][0]
    assert expected["k"] == 5
    assert dinolab.knn(train, names, test, truth, k=5).top1 == expected["top1"]
    done = command("eval", "linear", *inputs, "--lr", "0.01,0.3", "--epochs", "7", "--standardise")
    assert done.returncode == 0, done.stderr
    expected = json.loads(done.stdout)
    found = dinolab.linear(train, names, test, truth, lr=[0.01, 0.3], epochs=7, standardise=True)
    assert (found.lr, found.top1) == (expected["lr"], expected["last"]["top1"])
    assert [row[1] for row in found.history] == [
        row["loss"] for run in expected["runs"] if run["lr"] == found.lr for row in run["history"]
    ]


@pytest.mark.parametrize("standardise", [False, True])
def test_a_linear_classifier_is_its_weight_and_bias(standardise):
    (train, names), (test, truth) = clusters(0, 200), clusters(1)
    train, test = 3 * train + 1, 3 * test + 1
    found = dinolab.linear(train, names, test, truth, lr=0.1, epochs=30, standardise=standardise)
    assert found.weight.shape == (3, 8) and found.bias.shape == (3,)
    predicted = found.classes[np.argmax(test @ found.weight.T + found.bias, axis=1)]
    assert predicted.tolist() == found.predicted.tolist()
    assert found.top1 == pytest.approx(100 * np.mean(predicted == truth))
    assert found.top1 > 70 and found.top5 is None
    assert found.history[-1][1] < found.history[0][1]


def test_sizes_that_do_not_fit_are_refused():
    train, names = clusters(0)
    cases = [
        (lambda: dinolab.knn(train, names, train[:, :3], names), "different widths: 8 and 3"),
        (lambda: dinolab.knn(train, names[:-1], train, names), "60 features and 59 labels"),
        (lambda: dinolab.knn(train[0], names, train, names), r"shape [8]; give [N, D]"),
        (lambda: dinolab.knn(train, names, train, names, k=0), "k"),
        (lambda: dinolab.knn(train, names, train, names, temperature=0), "temperature"),
        (lambda: dinolab.knn(train * np.nan, names, train, names), "finite"),
        (lambda: dinolab.knn(train[:0], names[:0], train, names), ""),
        (lambda: dinolab.linear(train, names, train, names, lr=-1), "lr: must be above 0"),
        (lambda: dinolab.linear(train, names, train, names, epochs=0), "epochs: must be at least 1"),
        (lambda: dinolab.linear(train, names, train[:, :3], names), "different widths"),
    ]
    for call, text in cases:
        with pytest.raises(dinolab.Error) as caught:
            call()
        assert text in str(caught.value)


def test_a_rate_that_is_too_high_diverges():
    train, names = clusters(0)
    with pytest.raises(dinolab.DivergedError, match="too high"):
        dinolab.linear(train * 1e18, names, train, names, lr=1e30, epochs=3)
