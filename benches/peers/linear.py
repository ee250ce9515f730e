"""Trains torch.nn.Linear on saved features by the protocol of DINO's linear evaluation.

Features come from `dinolab embed --n-last-blocks 4 … --out F.npy`, their classes from
F.labels.txt beside them. Prints the accuracy after the last epoch and the best of all epochs,
per learning rate, for several seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, required=True, help="features to learn from, .npy")
    parser.add_argument("--val", type=Path, required=True, help="features to judge by, .npy")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, nargs="+", default=[0.001], help="for a batch of 256")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--standardise", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def read(path: Path) -> tuple[Tensor, list[str]]:
    """Features `[N, D]` and the class of each row."""
    features = torch.from_numpy(np.load(path))
    labels = path.with_suffix(".labels.txt").read_text().splitlines()
    assert len(labels) == len(features), f"{path}: {len(labels)} labels for {len(features)} rows"
    return features, labels


def numbers(labels: list[str], classes: list[str]) -> Tensor:
    """Places of labels among the classes; one that is not there counts as never found."""
    places = {name: place for place, name in enumerate(classes)}
    return torch.tensor([places.get(label, -1) for label in labels])


def train(
    train_set: tuple[Tensor, Tensor],
    val_set: tuple[Tensor, Tensor],
    classes: int,
    lr: float,
    seed: int,
    args: argparse.Namespace,
) -> tuple[float, float]:
    """Top-1 accuracy in percent after the last epoch, and the best of all epochs."""
    torch.manual_seed(seed)
    features, labels = train_set
    layer = nn.Linear(features.shape[1], classes)
    nn.init.normal_(layer.weight, mean=0.0, std=0.01)
    nn.init.zeros_(layer.bias)
    scaled = lr * args.batch_size / 256
    optimiser = torch.optim.SGD(layer.parameters(), scaled, momentum=0.9, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, args.epochs, eta_min=0)
    loss_of = nn.CrossEntropyLoss()
    last = best = 0.0
    for _ in range(args.epochs):
        for rows in torch.randperm(len(labels)).split(args.batch_size):
            loss = loss_of(layer(features[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        schedule.step()
        with torch.inference_mode():
            found = layer(val_set[0]).argmax(1)
        last = 100 * (found == val_set[1]).double().mean().item()
        best = max(best, last)
    return last, best


def main() -> None:
    """Reads, trains, prints."""
    args = arguments()
    torch.set_num_threads(args.threads)
    (train_features, train_names), (val_features, val_names) = read(args.train), read(args.val)
    if args.standardise:
        mean, std = train_features.mean(0), train_features.std(0, correction=0)
        std[std <= 1e-12] = 1
        train_features, val_features = ((f - mean) / std for f in (train_features, val_features))
    classes = sorted(set(train_names))
    train_set = (train_features, numbers(train_names, classes))
    val_set = (val_features, numbers(val_names, classes))
    for lr in args.lr:
        scores = [
            train(train_set, val_set, len(classes), lr, seed, args) for seed in args.seeds
        ]
        last, best = zip(*scores)
        spread = statistics.stdev(last) if len(last) > 1 else 0.0
        if args.json:
            print(json.dumps({"lr": lr, "seeds": args.seeds, "last": last, "best": best}))
        else:
            print(
                f"lr {lr:g}: last top-1 {statistics.mean(last):.2f} ± {spread:.2f} %, "
                f"best {statistics.mean(best):.2f} %, seeds {args.seeds}: "
                + ", ".join(f"{value:.2f}" for value in last),
                flush=True,
            )


if __name__ == "__main__":
    main()
