"""Checks an ONNX file that dinolab wrote, by the standard's checker and in ONNX Runtime.

    python onnx_check.py --make vit_small WEIGHTS.pth
    dinolab convert WEIGHTS.pth FILE.onnx --attention --patch-features
    python onnx_check.py WEIGHTS.pth FILE.onnx

`WEIGHTS.pth` is what the file was made from, in the reference's layout; `--make` writes random
ones. ONNX Runtime's outputs are compared with the network in PyTorch on random images of several
sizes and batches. `--golden FOLDER` also compares with recorded numbers of the reference
implementation (`expected.npz` and the images beside it). With `--timm MODEL` the weights are of
that network of timm, as safetensors, and timm computes what is expected; of a convolutional network
the patch tokens are all positions of its last grid. `--time N` measures N batches of `--batch-size`
images.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Callable

import numpy as np
import onnx
import onnxruntime
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from model import ARCHITECTURES, Vit, VitConfig

Outputs = dict[str, np.ndarray]
Shape = tuple[int, int, int]
TOLERANCE = 1e-4
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SHAPES = [
    (1, 14, 14),
    (4, 14, 14),
    (1, 16, 16),
    (1, 30, 30),
    (1, 20, 28),
    (4, 20, 28),
    (1, 6, 6),
    (3, 7, 21),
    (1, 15, 12),
    (2, 1, 1),
]
"""Images, rows and columns of patches. 14 × 14 patches of 16, or 16 × 16 of 14, are trained."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, metavar="WEIGHTS")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.onnx")
    parser.add_argument("--golden", type=Path, help="folder with expected.npz and its images")
    parser.add_argument("--timm", metavar="MODEL", help="the weights are of this network of timm")
    parser.add_argument("--make", choices=("timm", *ARCHITECTURES), help="write weights and end")
    parser.add_argument("--patch-size", type=int, default=16, help="for --make")
    parser.add_argument("--time", type=int, default=0, metavar="N", help="measured batches")
    parser.add_argument("--batch-size", type=int, default=32, help="for --time")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the runtime likes")
    return parser.parse_args()


def timm_network(name: str) -> torch.nn.Module:
    """A network of timm, a transformer for 224 pixels, of random weights of which each matters."""
    sizes = {"img_size": 224, "dynamic_img_size": True} if name.startswith("vit") else {}
    network = timm.create_model(name, pretrained=False, num_classes=0, **sizes)
    with torch.no_grad():
        for buffer, values in network.named_buffers():
            if buffer.endswith("running_mean"):
                values.normal_(std=0.2)
            elif buffer.endswith("running_var"):
                values.uniform_(0.5, 2)
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.05)
            else:
                parameter.add_(torch.randn(parameter.shape), alpha=0.2)
    return network.eval()


def load(path: Path) -> Vit:
    """The network of a checkpoint, sizes from its shapes."""
    with torch.serialization.safe_globals([argparse.Namespace]):
        state = torch.load(path, map_location="cpu", weights_only=True)
    state = state.get("teacher", state)
    prefix = "backbone."
    state = {
        name.removeprefix("module.").removeprefix(prefix): value
        for name, value in state.items()
        if "head." not in name
    }
    width, _, patch, _ = state["patch_embed.proj.weight"].shape
    side = round((state["pos_embed"].shape[1] - 1) ** 0.5)
    depth = sum(name.endswith("attn.qkv.weight") for name in state)
    vit = Vit(VitConfig(side * patch, patch, width, max(width // 64, 1), depth))
    vit.load_state_dict(state)
    return vit.eval()


def is_convolutional(network: torch.nn.Module) -> bool:
    """Whether it has no patch embedding."""
    return not hasattr(network, "patch_embed")


@torch.inference_mode()
def by_timm(network: torch.nn.Module, images: torch.Tensor) -> Outputs:
    """Class token and patch tokens by timm, or what stands for them in a convolutional network."""
    if is_convolutional(network):
        grid = network.forward_features(images)
        normalised = network.head.norm(grid) if hasattr(network, "head") else grid
        patches = normalised.flatten(2).transpose(1, 2)
        return {"features": network(images).numpy(), "patch_features": patches.numpy()}
    tokens = network.forward_features(images).numpy()
    return {"features": tokens[:, 0], "patch_features": tokens[:, network.num_prefix_tokens :]}


@torch.inference_mode()
def by_reference(vit: Vit, images: torch.Tensor) -> Outputs:
    """What the file may have as outputs, by PyTorch."""
    patch = vit.config.patch_size
    height, width = images.shape[-2] // patch, images.shape[-1] // patch
    cls = vit.cls_token.expand(images.shape[0], -1, -1)
    x = torch.cat([cls, vit.patch_embed(images)], dim=1) + vit.positions(height, width)
    for block in vit.blocks[:-1]:
        x = block(x)
    last = vit.blocks[-1]
    batch, tokens, dim = x.shape
    heads = last.attn.heads
    qkv = last.attn.qkv(last.norm1(x)).view(batch, tokens, 3, heads, dim // heads)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    scores = query[:, :, :1] @ key.transpose(2, 3) * (dim // heads) ** -0.5
    attention = scores.softmax(-1)[:, :, 0, 1:].reshape(batch, heads, height, width)
    x = vit.norm(last(x))
    outputs = {"features": x[:, 0], "patch_features": x[:, 1:], "attention": attention}
    return {name: value.numpy() for name, value in outputs.items()}


def deviation(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference relative to the largest expected value."""
    if found.shape != expected.shape:
        sys.exit(f"shape {found.shape}, expected {expected.shape}")
    return float(np.abs(found.astype(np.float64) - expected).max() / np.abs(expected).max())


class Checks:
    """Prints deviations and remembers the worst."""

    def __init__(self) -> None:
        self.worst = 0.0

    def __call__(self, what: str, found: np.ndarray, expected: np.ndarray) -> None:
        error = deviation(found, expected)
        self.worst = max(self.worst, error) if error == error else float("inf")
        print(f"{what:46} {error:.1e}")


def normalised(image: Image.Image) -> np.ndarray:
    """`[1, 3, H, W]`."""
    pixels = (np.asarray(image, np.float32) / 255 - MEAN) / STD
    return pixels.transpose(2, 0, 1)[None].copy()


def evaluation_view(image: Image.Image) -> Image.Image:
    """Shortest side to 256 (bicubic), then the centre of 224, as torchvision does it."""
    width, height = image.size
    short = min(width, height)
    size = (int(256 * width / short), int(256 * height / short))
    image = image.resize(size, Image.Resampling.BICUBIC)
    left, top = round((size[0] - 224) / 2), round((size[1] - 224) / 2)
    return image.crop((left, top, left + 224, top + 224))


def check_golden(session: onnxruntime.InferenceSession, folder: Path, checks: Checks) -> None:
    """Recorded features and attention of photographs."""
    recorded = np.load(folder / "expected.npz")
    names = [output.name for output in session.get_outputs()]
    run = lambda images: dict(zip(names, session.run(None, {"images": images})))
    for path in sorted(folder.glob("*.jpg")):
        image = Image.open(path).convert("RGB")
        expected = lambda name: recorded[f"{path.stem}.{name}"]
        view = run(normalised(evaluation_view(image)))
        whole = normalised(image.resize((480, 480), Image.Resampling.BILINEAR))
        large = run(whole)
        corner = run(whole[:, :, :320, :448].copy())
        pairs = [(view, "features", "cls224"), (corner, "features", "cls320x448")]
        pairs += [(view, "attention", "attn224"), (large, "attention", "attn480")]
        pairs += [(view, "logits", "head")]
        for outputs, output, name in pairs:
            if output in outputs:
                found = outputs[output][0]
                checks(f"{path.stem} {name}", found, expected(name).reshape(found.shape))


def make(args: argparse.Namespace) -> None:
    """Writes random weights."""
    if args.make == "timm":
        save_file(timm_network(args.timm).state_dict(), args.weights)
        return
    vit = Vit(VitConfig.named(args.make, args.patch_size, 224))
    state = {f"backbone.{name}": value for name, value in vit.state_dict().items()}
    torch.save(state, args.weights)


def expectation(args: argparse.Namespace) -> tuple[list[Shape], Callable[[torch.Tensor], Outputs]]:
    """Images, height and width in pixels, and what computes the expected outputs."""
    if not args.timm:
        vit = load(args.weights)
        patch = vit.config.patch_size
        # Some with pixels beyond the last whole patch.
        beyond = [i % 3 * (patch // 3) for i in range(len(SHAPES))]
        shapes = [
            (n, h * patch + more, w * patch + more // 2) for (n, h, w), more in zip(SHAPES, beyond)
        ]
        return shapes, lambda images: by_reference(vit, images)
    network = timm_network(args.timm)
    network.load_state_dict(load_file(args.weights))
    if is_convolutional(network):
        shapes = [(n, 16 * h + 5 * (i % 3), 16 * w) for i, (n, h, w) in enumerate(SHAPES)]
        shapes = [shape for shape in shapes if min(shape[1:]) >= 32]
    else:
        # timm takes whole patches only.
        patch = network.patch_embed.patch_size[0]
        shapes = [(n, h * patch, w * patch) for n, h, w in SHAPES]
    return shapes, lambda images: by_timm(network, images)


def measure(session: onnxruntime.InferenceSession, args: argparse.Namespace) -> None:
    """Prints the median of some batches."""
    shape = (args.batch_size, 3, 224, 224)
    images = np.random.default_rng(0).standard_normal(shape, np.float32)
    times = []
    for _ in range(args.time + 1):
        began = time.perf_counter()
        session.run(["features"], {"images": images})
        times.append(time.perf_counter() - began)
    middle = statistics.median(times[1:])
    print(f"{args.batch_size / middle:.1f} images/s ({1e3 * middle:.0f} ms, median of {args.time})")


def main() -> None:
    """Checks, compares, times; fails where something is wrong."""
    args = arguments()
    torch.manual_seed(0)
    if args.make:
        make(args)
        return
    if args.file is None:
        sys.exit("needs FILE.onnx")
    model = onnx.load(args.file)
    onnx.checker.check_model(model, full_check=True)
    print("metadata:", {entry.key: entry.value for entry in model.metadata_props})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(args.file, options, providers=["CPUExecutionProvider"])
    shapes, expected = expectation(args)
    checks = Checks()
    names = [output.name for output in session.get_outputs()]
    for batch, height, width in shapes:
        images = torch.randn(batch, 3, height, width)
        wanted = expected(images)
        for name, found in zip(names, session.run(None, {"images": images.numpy()})):
            if name in wanted:
                checks(f"{name} {batch} x {height} x {width}", found, wanted[name])
    if args.golden:
        check_golden(session, args.golden, checks)
    print(f"worst {checks.worst:.1e} of {TOLERANCE:.0e}")
    if args.time > 0:
        measure(session, args)
    sys.exit(checks.worst > TOLERANCE)


if __name__ == "__main__":
    main()
