"""ConvNeXts of timm and transformers in dinolab and back, features compared.

    python convnext_check.py --program ../../target/release/dinolab

Networks are made here with random weights; nothing is downloaded. The error of a row is that of an
image's feature, the largest of two images; rows of tokens are those of `DINOv3ConvNextModel`'s patch tokens.
"""

from __future__ import annotations

import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models._hub import save_for_hf
from torch import Tensor, nn
from transformers import (
    ConvNextConfig,
    ConvNextForImageClassification,
    ConvNextModel,
    DINOv3ConvNextConfig,
    DINOv3ConvNextModel,
)

from convnext_fixtures import enliven
from resnet_check import SIZES, pooled, run
from weights import Bench, Features


def headless(name: str, seed: int | None = None) -> nn.Module:
    """timm's network without its classifier; with a seed, with values that count."""
    network = timm.create_model(name, pretrained=False, num_classes=0)
    return (network if seed is None else enliven(network, seed)).eval()


def pooler(network: nn.Module) -> Features:
    """Features of one of transformers."""

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        return network(images).pooler_output

    return features


def of_timm(bench: Bench) -> None:
    """Read, written with timm's names, and loaded again."""
    for seed, name in enumerate(("convnext_atto", "convnext_pico", "convnext_tiny", "convnext_small")):
        network = headless(name, seed)
        file = bench.folder / f"{name}.pth"
        torch.save(network.state_dict(), file)
        bench.read(f"timm {name}", file, pooled(network), SIZES)
        for ending in (".pth", ".safetensors"):
            written = bench.folder / f"{name}-ours{ending}"
            bench.dinolab("convert", file, written, "--to", "timm")
            again = headless(name)
            again.load_state_dict(torch.load(written) if ending == ".pth" else load_file(written))
            bench.write(f"timm {name}", ending, pooled(network), pooled(again), SIZES[:1])
        folder = bench.folder / f"{name}-ours"
        bench.dinolab("convert", file, folder, "--to", "timm")
        again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        bench.write(f"timm {name}", "folder", pooled(network), pooled(again), SIZES[:1])
        folder = bench.folder / f"{name}-folder"
        folder.mkdir()
        with_classifier = timm.create_model(name, pretrained=False)
        with_classifier.load_state_dict(network.state_dict(), strict=False)
        save_for_hf(with_classifier, folder, safe_serialization=True)
        bench.read(f"timm folder {name}", folder, pooled(network), SIZES[:1])


def of_transformers(bench: Bench) -> None:
    """Folders of ConvNextModel and of the classifier that contains it, read, and the first written."""
    for of in (ConvNextModel, ConvNextForImageClassification):
        network = enliven(of(ConvNextConfig()), 4).eval()
        folder = bench.folder / of.__name__
        network.save_pretrained(folder)
        inner = network if of is ConvNextModel else network.convnext
        bench.read(of.__name__, folder, pooler(inner), SIZES)
        written = bench.folder / f"{of.__name__}-ours"
        bench.dinolab("convert", folder, written, "--to", "hf")
        again = ConvNextModel.from_pretrained(written).eval()
        bench.write(of.__name__, "folder", pooler(inner), pooler(again), SIZES[:1])


def of_dinov3(bench: Bench) -> None:
    """A folder of DINOv3ConvNextModel: features and patch tokens."""
    network = enliven(DINOv3ConvNextModel(DINOv3ConvNextConfig()), 5).eval()
    folder = bench.folder / "dinov3"
    network.save_pretrained(folder)
    bench.read("DINOv3ConvNextModel", folder, pooler(network), SIZES)
    size = SIZES[0]
    with torch.inference_mode():
        tokens = network(bench.images(size)[1]).last_hidden_state[:, 1:].numpy()
    ours = bench.embed(folder, size, "--patch-tokens")
    rows = [x.reshape(len(x), -1) for x in (ours, tokens)]
    bench.compare("DINOv3ConvNextModel, tokens", "theirs, read here", size, *map(np.ascontiguousarray, rows))
    authors = bench.folder / "authors.safetensors"
    bench.dinolab("convert", folder, authors)
    renamed = load_file(authors)
    # DINOv3's own files have the final norm twice.
    renamed |= {f"norms.3.{part}": renamed[f"norm.{part}"].clone() for part in ("weight", "bias")}
    file = bench.folder / "dinov3-names.safetensors"
    save_file(renamed, file)
    bench.read("DINOv3's own names", file, pooler(network), SIZES[:1])


if __name__ == "__main__":
    run(__doc__, of_timm, of_transformers, of_dinov3)
