"""Residual networks of torchvision, timm, transformers and the reference in dinolab and back, features compared.

    python resnet_check.py --program ../../target/release/dinolab

Networks are made here with random weights; nothing is downloaded. The error of a row is that of an
image's feature, the largest of two images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from timm.models._hub import save_for_hf
from torch import Tensor, nn
from transformers import ResNetConfig, ResNetForImageClassification, ResNetModel

from model import Head, HeadConfig
from resnet_fixtures import enliven
from weights import Bench, Features

TOLERANCE = 1e-5
SIZES = [(224, 224), (96, 96), (200, 333)]


def pooled(network: nn.Module) -> Features:
    """Features of a network without its classifier."""

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        return network(images)

    return features


def headless(network: nn.Module) -> nn.Module:
    """A network that ends with its pooling."""
    network.fc = nn.Identity()
    return network.eval()


def of_torchvision(bench: Bench) -> None:
    """Saved with the classifier, read, written and loaded again."""
    for name in ("resnet18", "resnet34", "resnet50"):
        network = enliven(getattr(torchvision.models, name)(weights=None), 1)
        file = bench.folder / f"{name}.pth"
        torch.save(network.state_dict(), file)
        features = pooled(headless(network))
        bench.read(f"torchvision {name}", file, features, SIZES)
        for written in (bench.folder / f"{name}-ours.pth", bench.folder / f"{name}-ours.safetensors"):
            bench.dinolab("convert", file, written)
            again = headless(getattr(torchvision.models, name)(weights=None))
            plain = written.suffix == ".pth"
            again.load_state_dict(torch.load(written) if plain else load_file(written), strict=plain)
            bench.write(f"torchvision {name}", written.suffix, features, pooled(again), SIZES[:1])


def of_timm(bench: Bench) -> None:
    """timm's own class."""
    for name in ("resnet18", "resnet50"):
        network = enliven(timm.create_model(name, pretrained=False, num_classes=0), 2).eval()
        file = bench.folder / f"timm-{name}.safetensors"
        save_file(network.state_dict(), file)
        bench.read(f"timm {name}", file, pooled(network), SIZES)


def of_timm_folder(bench: Bench) -> None:
    """Folders that timm writes for the Hugging Face Hub."""
    for name in ("resnet18", "resnet34", "resnet50"):
        network = enliven(timm.create_model(name, pretrained=False), 3).eval()
        folder = bench.folder / f"timm-folder-{name}"
        folder.mkdir()
        save_for_hf(network, folder, safe_serialization=True)
        features = pooled(headless(network))
        bench.read(f"timm folder {name}", folder, features, SIZES)
        written = bench.folder / f"timm-ours-{name}"
        bench.dinolab("convert", folder, written, "--to", "timm")
        again = timm.create_model(f"local-dir:{written}", pretrained=True).eval()
        bench.write(f"timm folder {name}", "folder", features, pooled(again), SIZES[:1])


def of_transformers(bench: Bench) -> None:
    """Folders of ResNetModel, and of the classifier that contains it."""
    sizes = {
        "basic": {"hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2]},
        "bottleneck": {"hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]},
    }
    for kind, size in sizes.items():
        for of in (ResNetModel, ResNetForImageClassification):
            network = enliven(of(ResNetConfig(layer_type=kind, **size)), 4).eval()
            folder = bench.folder / f"{kind}-{of.__name__}"
            network.save_pretrained(folder)
            inner = network if of is ResNetModel else network.resnet

            @torch.inference_mode()
            def features(images: Tensor, inner: nn.Module = inner) -> Tensor:
                return inner(images).pooler_output.flatten(1)

            bench.read(f"{of.__name__} {kind}", folder, features, SIZES)
            if of is not ResNetModel:
                continue
            written = bench.folder / f"{kind}-ours"
            bench.dinolab("convert", folder, written, "--to", "hf")
            again, told = ResNetModel.from_pretrained(written, output_loading_info=True)
            missing = [name for name in told["missing_keys"] if "num_batches_tracked" not in name]
            if missing or told["unexpected_keys"]:
                sys.exit(f"{written}: {told}")
            again.eval()

            @torch.inference_mode()
            def theirs(images: Tensor, network: nn.Module = again) -> Tensor:
                return network(images).pooler_output.flatten(1)

            bench.write(f"ResNetModel {kind}", "folder", features, theirs, SIZES[:1])


def of_reference(bench: Bench) -> None:
    """A training checkpoint as the reference lays it out: both networks with heads."""
    networks = {}
    for seed, (role, wrapper) in enumerate((("student", "module."), ("teacher", ""))):
        network = headless(enliven(torchvision.models.resnet50(weights=None), seed))
        head = Head(2048, HeadConfig(out_dim=64, hidden_dim=128, bottleneck_dim=32))
        state = {f"{wrapper}backbone.{k}": v for k, v in network.state_dict().items()}
        state |= {f"{wrapper}head.{k}": v for k, v in head.state_dict().items()}
        networks[role] = (network, state)
    file = bench.folder / "checkpoint.pth"
    torch.save({role: state for role, (_, state) in networks.items()} | {"epoch": 3}, file)
    for role, (network, _) in networks.items():
        for size in SIZES[:2]:
            theirs = pooled(network)(bench.images(size)[1]).numpy()
            ours = bench.embed(file, size, "--checkpoint-key", role)
            bench.compare(f"reference, {role}", "theirs, read here", size, ours, theirs)


def run(description: str | None, *checks: Callable[[Bench], None]) -> None:
    """Runs checks with the program that the command line names; fails if one is above the tolerance."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--program", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.program.resolve(), Path(folder), [])
        for check in checks:
            check(bench)
    worst = max(bench.rows, key=lambda row: row.error)
    print(f"worst of {len(bench.rows)}: {worst}")
    if worst.error > TOLERANCE:
        sys.exit(f"above {TOLERANCE}")


if __name__ == "__main__":
    run(__doc__, of_torchvision, of_timm, of_timm_folder, of_transformers, of_reference)
