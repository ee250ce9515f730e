"""Weights to and from timm, Hugging Face and the reference, features compared both ways.

    python weights.py --program ../../target/release/dinolab [--golden FOLDER]

Networks are made here with random weights; nothing is downloaded. Each is saved by its own
library and read by dinolab, and written by dinolab and read by its own library. FOLDER holds a
checkpoint of the reference with features computed by it (`checkpoint.pth`, `expected.npz` and the
two JPEGs), to be sent round: .pth, run folder, timm, and .pth again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import numpy as np
import timm
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model import HeadConfig, Network, Vit, VitConfig

TOLERANCE = 1e-4
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Size = tuple[int, int]
Features = Callable[[Tensor], Tensor]


@dataclass
class Row:
    """One comparison."""

    network: str
    way: str
    size: Size
    error: float


class Bench:
    """The program, a folder for its files, and what was found."""

    def __init__(self, program: Path, folder: Path, only: list[str]) -> None:
        self.program, self.folder, self.only = program, folder, only
        self.rows: list[Row] = []

    def wants(self, name: str) -> bool:
        """Whether a network of a library is to be compared."""
        return not self.only or any(part in name.lower() for part in self.only)

    def dinolab(self, *arguments: object) -> str:
        """Runs the program; its failure is ours."""
        command = [str(self.program), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def images(self, size: Size) -> tuple[Path, Tensor]:
        """Two random pictures as PNG files, and as the network's input."""
        folder = self.folder / f"images-{size[0]}x{size[1]}"
        random = np.random.default_rng(size[0] * 10_000 + size[1])
        tensors = []
        folder.mkdir(exist_ok=True)
        for i in range(2):
            coarse = random.integers(0, 256, (9, 11, 3), dtype=np.uint8)
            image = Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)
            image.save(folder / f"{i}.png")
            tensors.append(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255)
        batch = torch.stack(tensors)
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        return folder, (batch - mean) / std

    def embed(self, weights: Path, size: Size, *flags: object) -> np.ndarray:
        """Class tokens by dinolab."""
        folder, _ = self.images(size)
        out = self.folder / "features.npy"
        size_flag = f"--size={size[0]}x{size[1]}"
        self.dinolab("embed", "--weights", weights, folder, "--out", out, size_flag, *flags)
        return np.load(out)

    def compare(
        self, network: str, way: str, size: Size, ours: np.ndarray, theirs: np.ndarray
    ) -> None:
        """Records the largest relative error of an image's feature."""
        error = np.linalg.norm(ours - theirs, axis=1) / np.linalg.norm(theirs, axis=1)
        self.rows.append(Row(network, way, size, float(error.max())))
        row = self.rows[-1]
        print(f"{network:33} {way:26} {size[0]:>4} × {size[1]:<4} {row.error:.1e}", flush=True)

    def read(self, network: str, weights: Path, features: Features, sizes: list[Size]) -> None:
        """A file of theirs in dinolab."""
        for size in sizes:
            theirs = features(self.images(size)[1]).numpy()
            self.compare(network, "theirs, read here", size, self.embed(weights, size), theirs)

    def write(
        self, network: str, way: str, original: Features, written: Features, sizes: list[Size]
    ) -> None:
        """A file of ours in their library, against the network that it came from."""
        for size in sizes:
            images = self.images(size)[1]
            self.compare(network, way, size, written(images).numpy(), original(images).numpy())


def enliven(network: nn.Module) -> nn.Module:
    """Random values for every parameter, large enough for each to matter."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = torch.randn(parameter.shape, generator=random)
            if "norm" in name and name.endswith("weight") or "lambda" in name or "gamma" in name:
                parameter.copy_(1 + 0.2 * values)
            elif parameter.ndim > 1 and "pos" not in name and "token" not in name:
                parameter.copy_(values * 1.5 / parameter[0].numel() ** 0.5)
            else:
                parameter.copy_(0.3 * values)
    return network.eval()


def class_tokens(network: nn.Module) -> Features:
    """Class tokens after the final norm, of any of the libraries' networks."""

    @torch.inference_mode()
    def features(images: Tensor) -> Tensor:
        if isinstance(network, Vit):
            return network(images)
        if isinstance(network, transformers.ViTModel):
            output = network(images, interpolate_pos_encoding=True)
            return output.last_hidden_state[:, 0]
        if isinstance(network, transformers.PreTrainedModel):
            return network(images).last_hidden_state[:, 0]
        return network.forward_features(images)[:, 0]

    return features


def local_timm(folder: Path) -> Features:
    """A folder of ours in timm."""
    return class_tokens(timm.create_model(f"local-dir:{folder}", pretrained=True).eval())


def local_hugging_face(folder: Path) -> Features:
    """A folder of ours in transformers; weights that it does not find are an error."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])
    extra = {"add_pooling_layer": False} if kind is transformers.ViTModel else {}
    network, report = kind.from_pretrained(folder, output_loading_info=True, **extra)
    wrong = report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"]
    if any(wrong):
        sys.exit(f"{folder}: transformers does not find its way: {wrong}")
    prepare = transformers.AutoImageProcessor.from_pretrained(folder)
    picture = Image.fromarray(np.full((300, 500, 3), 128, np.uint8))
    pixels = prepare(picture, return_tensors="pt")["pixel_values"]
    expected = (128 / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    if (pixels[0, :, 100, 100] - expected).abs().max() > 1e-3:
        sys.exit(f"{folder}: its images are prepared otherwise")
    return class_tokens(network.eval())


def of_timm(bench: Bench) -> None:
    """timm's networks, saved by safetensors and by torch, and written back."""
    square, wide = (224, 224), (320, 448)
    for name, trained, sizes in (
        ("vit_small_patch16_224", (224, 224), [square, (480, 480), wide]),
        ("vit_small_patch14_dinov2", (518, 518), [square, (476, 476), (322, 448)]),
        ("vit_small_patch14_reg4_dinov2", (518, 518), [square, (476, 476), (322, 448)]),
        ("vit_small_patch16_dinov3_qkvb", (256, 256), [square, (480, 480), wide]),
        ("vit_small_plus_patch16_dinov3_qkvb", (256, 256), [square, (480, 480), wide]),
    ):
        if not bench.wants(name):
            continue
        network = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
        features = class_tokens(enliven(network))
        file = bench.folder / f"{name}.safetensors"
        save_file(network.state_dict(), file)
        bench.read(f"timm {name}", file, features, sorted({*sizes, trained}))
        pickled = bench.folder / f"{name}.pth"
        torch.save(network.state_dict(), pickled)
        flags = ("--position-rule", "ratio-antialias")
        size = (322, 448) if trained[0] == 518 else wide
        theirs = features(bench.images(size)[1]).numpy()
        ours = bench.embed(pickled, size, *flags)
        bench.compare(f"timm {name}", "theirs as .pth, read here", size, ours, theirs)

        folder = bench.folder / f"{name}-timm"
        bench.dinolab("convert", file, folder, "--to", "timm")
        bench.write(f"timm {name}", "written for timm", features, local_timm(folder), sizes)
        folder = bench.folder / f"{name}-hf"
        bench.dinolab("convert", file, folder, "--to", "hf")
        # DINOv2 with registers has timm's rule; the others have their own at other sizes.
        agreed = sizes if "reg4" in name or "dinov3" in name else [trained]
        written = local_hugging_face(folder)
        bench.write(f"timm {name}", "written for Hugging Face", features, written, agreed)


def of_hugging_face(bench: Bench) -> None:
    """Hugging Face's networks, saved by transformers, and written back."""
    common = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6}
    square, wide = (224, 224), (322, 448)
    for kind, config, sizes in (
        (
            transformers.ViTModel,
            transformers.ViTConfig(**common, intermediate_size=1536, image_size=224, patch_size=16),
            [square, (480, 480), (320, 448)],
        ),
        (
            transformers.Dinov2Model,
            transformers.Dinov2Config(**common, image_size=518, patch_size=14),
            [square, (476, 476), wide],
        ),
        (
            transformers.Dinov2WithRegistersModel,
            transformers.Dinov2WithRegistersConfig(**common, image_size=518, patch_size=14),
            [square, (476, 476), wide],
        ),
        (
            transformers.Dinov2Model,
            transformers.Dinov2Config(**common, image_size=518, patch_size=14, use_swiglu_ffn=True),
            [square, (476, 476), wide],
        ),
        (
            transformers.DINOv3ViTModel,
            transformers.DINOv3ViTConfig(**common, num_register_tokens=4),
            [square, (480, 480), (320, 448)],
        ),
        (
            transformers.DINOv3ViTModel,
            transformers.DINOv3ViTConfig(
                **common, num_register_tokens=4, use_gated_mlp=True, hidden_act="silu"
            ),
            [square, (480, 480), (320, 448)],
        ),
    ):
        gated = getattr(config, "use_swiglu_ffn", False) or getattr(config, "use_gated_mlp", False)
        name = kind.__name__ + (" gated" if gated else "")
        if not bench.wants(name):
            continue
        extra = {"add_pooling_layer": False} if kind is transformers.ViTModel else {}
        network = enliven(kind(config, **extra))
        features = class_tokens(network)
        folder = bench.folder / name.replace(" ", "-")
        network.save_pretrained(folder)
        trained = (config.image_size, config.image_size)
        bench.read(name, folder, features, sorted({*sizes, trained}))

        written = bench.folder / f"{folder.name}-hf"
        bench.dinolab("convert", folder, written, "--to", "hf")
        bench.write(name, "written for Hugging Face", features, local_hugging_face(written), sizes)
        written = bench.folder / f"{folder.name}-timm"
        bench.dinolab("convert", folder, written, "--to", "timm")
        agreed = sizes if "Registers" in name or "DINOv3" in name else [trained]
        bench.write(name, "written for timm", features, local_timm(written), agreed)


def of_reference(bench: Bench) -> None:
    """The reference's network to every format; --image-size makes the position rules agree."""
    network = enliven(Vit(VitConfig.named("vit_small", 16, 224)))
    features = class_tokens(network)
    file = bench.folder / "reference.pth"
    torch.save(network.state_dict(), file)
    sizes = [(224, 224), (480, 480), (320, 448)]
    bench.read("reference vit_small", file, features, sizes)
    back = bench.folder / "reference-back.pth"
    for target, load in (("timm", local_timm), ("hf", local_hugging_face)):
        for side in (224, 480):
            folder = bench.folder / f"reference-{target}-{side}"
            flags = () if side == 224 else ("--image-size", side)
            bench.dinolab("convert", file, folder, "--to", target, *flags)
            way = f"written for {target}"
            bench.write("reference vit_small", way, features, load(folder), [(side, side)])
        bench.dinolab("convert", bench.folder / f"reference-{target}-224", back)
        again = Vit(network.config)
        again.load_state_dict(torch.load(back, weights_only=True))
        way = f"through {target} to .pth"
        bench.write("reference vit_small", way, features, class_tokens(again.eval()), sizes)


def of_golden(bench: Bench, golden: Path) -> None:
    """The reference's own numbers at the end of .pth, run folder, timm, .pth."""
    expected = np.load(golden / "expected.npz")
    run, timm_folder = bench.folder / "golden-run", bench.folder / "golden-timm"
    last = bench.folder / "golden.pth"
    bench.dinolab("convert", golden / "checkpoint.pth", run, "--to", "run")
    bench.dinolab("convert", run, timm_folder, "--to", "timm")
    bench.dinolab("convert", timm_folder, last)
    stages = {".pth": golden / "checkpoint.pth", "run": run, "timm": timm_folder, ".pth again": last}

    # Prepared here as the reference does, so that only the network is compared.
    stems = sorted(path.stem for path in golden.glob("*.jpg"))
    for stem in stems:
        image = Image.open(golden / f"{stem}.jpg").convert("RGB")
        shortest = min(image.size)
        large = image.resize(
            [256 * side // shortest for side in image.size], Image.Resampling.BICUBIC
        )
        left, top = (round((side - 224) / 2) for side in large.size)
        views = {
            (224, 224): large.crop((left, top, left + 224, top + 224)),
            (480, 480): image.resize((480, 480), Image.Resampling.BILINEAR),
        }
        views[320, 448] = views[480, 480].crop((0, 0, 448, 320))
        for size, view in views.items():
            folder = bench.folder / f"golden-{size[0]}x{size[1]}"
            folder.mkdir(exist_ok=True)
            view.save(folder / f"{stem}.png")
    names = {(224, 224): "cls224", (320, 448): "cls320x448"}
    out = bench.folder / "golden.npy"
    first: dict[Size, np.ndarray] = {}
    for stage, weights in stages.items():
        for size in ((224, 224), (480, 480), (320, 448)):
            pictures = bench.folder / f"golden-{size[0]}x{size[1]}"
            flag = f"--size={size[0]}x{size[1]}"
            bench.dinolab("embed", "--weights", weights, pictures, "--out", out, flag)
            ours = np.load(out)
            bench.compare("golden", f"{stage}, as the first", size, ours, first.setdefault(size, ours))
            if size in names:
                theirs = np.stack([expected[f"{stem}.{names[size]}"].ravel() for stem in stems])
                bench.compare("golden", f"{stage}, as its numbers", size, ours, theirs)


def of_training(bench: Bench) -> None:
    """A run's checkpoint for the reference: both networks, the centre, the optimiser."""
    run, file = bench.folder / "run", bench.folder / "full.pth"
    sizes = (
        "--arch custom --width 64 --depth 2 --heads 2 --patch-size 8 --global-crops-size 32 "
        "--local-crops-size 16 --local-crops-number 2 --head-hidden-dim 48 "
        "--head-bottleneck-dim 16 --out-dim 40 --batch-size 8 --shapes-images 32 --epochs 3 "
        "--eval-every 0"
    )
    bench.dinolab("train", "--out", run, *sizes.split())
    bench.dinolab("convert", run, file, "--full")
    saved = torch.load(file, weights_only=True)
    (ours,) = (run / "checkpoints").glob(f"step-{12:09}.safetensors")
    ours = load_file(ours)

    network = Network(VitConfig(32, 8, 64, 2, 2), HeadConfig(40, 48, 16))
    assert saved["epoch"] == 3 and saved["args"]["patch_size"] == 8
    network.load_state_dict(saved["teacher"])
    network.load_state_dict({k.removeprefix("module."): v for k, v in saved["student"].items()})
    assert torch.equal(saved["dino_loss"]["center"][0], ours["centre"])
    # The groups of the reference: biases and vectors do not decay.
    learned = [(k, p) for k, p in network.named_parameters() if p.requires_grad]
    plain = [p.ndim == 1 or k.endswith(".bias") for k, p in learned]
    groups = [[i for i, is_plain in enumerate(plain) if is_plain == which] for which in (False, True)]
    optimiser = torch.optim.AdamW([{"params": [learned[i][1] for i in group]} for group in groups])
    optimiser.load_state_dict(saved["optimizer"])
    for name, parameter in learned:
        for slot, key in enumerate(("exp_avg", "exp_avg_sq")):
            theirs = optimiser.state[parameter][key]
            assert torch.equal(theirs.flatten(), ours[f"optimiser.{slot}.{name}"]), name
    # It goes on from there.
    network(torch.zeros(1, 2, 3, 32, 32)).sum().backward()
    optimiser.step()
    print("full checkpoint: networks, centre and AdamW's moments are where PyTorch expects them")


def main() -> None:
    """Runs all comparisons; fails where one is too far off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--program", type=Path, required=True, metavar="DINOLAB")
    parser.add_argument("--golden", type=Path, metavar="FOLDER")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="TEXT", help="networks with this in their name"
    )
    parser.add_argument("--json", type=Path, help="write the rows here")
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.program.resolve(), Path(folder), args.only)
        if not args.only:
            of_training(bench)
            of_reference(bench)
        if args.golden:
            of_golden(bench, args.golden)
        of_timm(bench)
        of_hugging_face(bench)
    if args.json:
        args.json.write_text(json.dumps([vars(row) for row in bench.rows], indent=1))
    worst = max(bench.rows, key=lambda row: row.error)
    print(f"largest relative error of {len(bench.rows)}: {worst.error:.1e}")
    if worst.error > TOLERANCE:
        sys.exit("not the same features")


if __name__ == "__main__":
    main()
