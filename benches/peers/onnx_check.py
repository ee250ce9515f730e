"""Checks an ONNX file that dinolab wrote, by the standard's checker and in ONNX Runtime.

    python benches/peers/onnx_check.py WEIGHTS.pth FILE.onnx [--golden FOLDER]

`WEIGHTS.pth` is what the file was made from, in the reference's layout. ONNX Runtime's outputs are
compared with the network in PyTorch on random images of several sizes and batches; with
`--golden`, also with recorded numbers of the reference implementation (`expected.npz` and the
images beside it). `--make ARCH` first writes random weights to `WEIGHTS.pth` and ends; `--time N`
measures N batches of `--batch-size` images.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from PIL import Image

from model import ARCHITECTURES, Vit, VitConfig

TOLERANCE = 1e-4
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)
SHAPES = [
    (1, 224, 224),
    (4, 224, 224),
    (1, 480, 480),
    (1, 320, 448),
    (4, 320, 448),
    (1, 96, 96),
    (3, 112, 336),
    (1, 247, 201),
    (2, 16, 16),
]
"""Batch, height, width: trained, larger, rectangular, smaller, with pixels left over."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", type=Path, metavar="WEIGHTS.pth")
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE.onnx")
    parser.add_argument("--golden", type=Path, help="folder with expected.npz and its images")
    parser.add_argument("--make", choices=tuple(ARCHITECTURES), help="write random weights and end")
    parser.add_argument("--patch-size", type=int, default=16, help="for --make")
    parser.add_argument("--time", type=int, default=0, metavar="N", help="measured batches")
    parser.add_argument("--batch-size", type=int, default=32, help="for --time")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as the runtime likes")
    return parser.parse_args()


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


@torch.inference_mode()
def reference(vit: Vit, images: torch.Tensor) -> dict[str, np.ndarray]:
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


def main() -> None:
    """Checks, compares, times; fails where something is wrong."""
    args = arguments()
    torch.manual_seed(0)
    if args.make:
        vit = Vit(VitConfig.named(args.make, args.patch_size, 224))
        torch.save({f"backbone.{name}": value for name, value in vit.state_dict().items()}, args.weights)
        return
    if args.file is None:
        sys.exit("needs FILE.onnx")
    model = onnx.load(args.file)
    onnx.checker.check_model(model, full_check=True)
    print("metadata:", {entry.key: entry.value for entry in model.metadata_props})
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    session = onnxruntime.InferenceSession(
        args.file, options, providers=["CPUExecutionProvider"]
    )
    vit = load(args.weights)
    checks = Checks()
    names = [output.name for output in session.get_outputs()]
    for shape in SHAPES:
        batch, height, width = shape
        images = torch.randn(batch, 3, height, width)
        expected = reference(vit, images)
        found = session.run(None, {"images": images.numpy()})
        for name, value in zip(names, found):
            if name in expected:
                checks(f"{name} {batch} x {height} x {width}", value, expected[name])
    if args.golden:
        check_golden(session, args.golden, checks)
    print(f"worst {checks.worst:.1e} of {TOLERANCE:.0e}")
    if args.time > 0:
        images = np.random.default_rng(0).standard_normal((args.batch_size, 3, 224, 224), np.float32)
        session.run(["features"], {"images": images})
        times = []
        for _ in range(args.time):
            began = time.perf_counter()
            session.run(["features"], {"images": images})
            times.append(time.perf_counter() - began)
        middle = sorted(times)[len(times) // 2]
        print(f"{args.batch_size / middle:.1f} images/s ({1e3 * middle:.0f} ms, median of {args.time})")
    sys.exit(checks.worst > TOLERANCE)


if __name__ == "__main__":
    main()
