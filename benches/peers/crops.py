"""Times the ten views of an image in Python's pipelines and in dinolab, in turns.

    python crops.py photos --program target/release/dinolab --rounds 9

One thread each, images read and decoded every time. Every turn lasts --seconds; figures are images
per second of processor time, ratios are taken within a round. With --cores N it is N processes of
Python, or dinolab's loader on N threads, and figures are images per second by the clock on the wall.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import os
import random
import resource
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image, ImageFilter, ImageOps  # noqa: E402
from torchvision.transforms import InterpolationMode, v2  # noqa: E402

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Side, scale, blur probability, solarisation probability; the third row stands for all local views.
VIEWS = [(224, (0.4, 1.0), 1.0, 0.0), (224, (0.4, 1.0), 0.1, 0.2), (96, (0.05, 0.4), 0.5, 0.0)]
LOCAL_VIEWS = 8
Pipeline = Callable[[bytes], list]


def views(make: Callable[..., Callable], kinds: list[tuple] = VIEWS, count: int = LOCAL_VIEWS) -> list[Callable]:
    """One transformation per view, the local one `count` times."""
    first, second, local = (make(*view) for view in kinds)
    return [first, second] + [local] * count


def common(side: int, scale: tuple[float, float]) -> list:
    """What torchvision does alike on Pillow's images and on tensors."""
    jitter = v2.ColorJitter(0.4, 0.4, 0.2, 0.1)
    return [
        v2.RandomResizedCrop(side, scale, interpolation=InterpolationMode.BICUBIC, antialias=True),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([jitter], 0.8),
        v2.RandomGrayscale(0.2),
    ]


def pillow(kinds: list[tuple] = VIEWS, count: int = LOCAL_VIEWS) -> Pipeline:
    """As the reference: torchvision on Pillow's images, blur and solarisation by Pillow."""

    def make(side, scale, blur, solarise):
        before = v2.Compose(common(side, scale))
        after = v2.Compose([v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])

        def view(image):
            image = before(image)
            if random.random() < blur:
                image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))
            if random.random() < solarise:
                image = ImageOps.solarize(image)
            return after(image)

        return view

    makers = views(make, kinds, count)

    def pipeline(data):
        image = Image.open(io.BytesIO(data)).convert("RGB")
        return [view(image) for view in makers]

    return pipeline


def tensors() -> Pipeline:
    """torchvision on 8-bit tensors, its own decoder and blur."""
    from torchvision.io import ImageReadMode, decode_image

    def make(side, scale, blur, solarise):
        # Three deviations either side, odd: the blur of 2 pixels in full.
        gaussian = v2.GaussianBlur(13, (0.1, 2.0))
        return v2.Compose([
            *common(side, scale),
            v2.RandomApply([gaussian], blur),
            v2.RandomSolarize(128, solarise),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ])

    makers = views(make)

    def pipeline(data):
        image = decode_image(torch.frombuffer(bytearray(data), dtype=torch.uint8), ImageReadMode.RGB)
        return [view(image) for view in makers]

    return pipeline


def albumentations() -> Pipeline:
    """albumentations on OpenCV. Its shrinking by bicubic does not antialias: less work."""
    import albumentations as A
    import cv2
    from albumentations.pytorch import ToTensorV2

    cv2.setNumThreads(1)

    def make(side, scale, blur, solarise):
        return A.Compose([
            A.RandomResizedCrop((side, side), scale=scale, interpolation=cv2.INTER_CUBIC),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter((0.6, 1.4), (0.6, 1.4), (0.8, 1.2), (-0.1, 0.1), p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=blur),
            A.Solarize((0.5, 0.5), p=solarise),
            A.Normalize(MEAN, STD),
            ToTensorV2(),
        ])

    makers = views(make)

    def pipeline(data):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return [view(image=image)["image"] for view in makers]

    return pipeline


PEERS = {"pillow": pillow, "tensors": tensors, "albumentations": albumentations}


def turn(pipeline: Pipeline, files: list[bytes], seconds: float) -> float:
    """Images per second of processor time."""
    clock, images = time.process_time(), 0
    while time.process_time() - clock < seconds:
        pipeline(files[images % len(files)])
        images += 1
    return images / (time.process_time() - clock)


def count(name: str, seconds: float) -> float:
    """Images per second by the clock on the wall, in a process of a pool."""
    pipeline, files = WORK[name]
    clock, images = time.perf_counter(), 0
    while time.perf_counter() - clock < seconds:
        pipeline(files[images % len(files)])
        images += 1
    return images / (time.perf_counter() - clock)


# What the processes of a pool find when they begin.
WORK: dict[str, tuple[Pipeline, list[bytes]]] = {}


def together(pool: multiprocessing.pool.Pool, name: str, cores: int, seconds: float) -> float:
    """All processes of a pool at once."""
    return sum(pool.starmap(count, [(name, seconds)] * cores, chunksize=1))


def loader(program: str, folder: str, cores: int, seconds: float) -> float:
    """dinolab's loader."""
    command = [program, "bench", "crops", folder, "--json", "--threads", str(cores), "--seconds", str(seconds)]
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return out["images_per_s"]


def dinolab(program: str, folder: str, seconds: float) -> float:
    """The same of dinolab: its own account of its stages, times the share of a core that it got."""
    command = [program, "bench", "crops", folder, "--json", "--threads", "1", "--seconds", str(seconds)]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    out = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    # It measures wall time, which other work on the machine stretches; one thread at a time works.
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 / sum(stage["ms_per_image"] for stage in out["stages"]) * wall / busy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="JPEG files")
    parser.add_argument("--program", default="target/release/dinolab")
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=list(PEERS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--cores", type=int, default=1, help="more than one: by the clock on the wall")
    args = parser.parse_args()
    torch.set_num_threads(1)
    random.seed(0)
    torch.manual_seed(0)
    files = [path.read_bytes() for path in sorted(Path(args.folder).rglob("*.jpg"))]
    if not files:
        parser.error(f"{args.folder}: no .jpg in it")
    pipelines = {name: PEERS[name]() for name in args.peers}
    for name, pipeline in pipelines.items():
        pipeline(files[0])
        WORK[name] = (pipeline, files)
    # Forked, so that they begin with what is ready here.
    pool = multiprocessing.get_context("fork").Pool(args.cores) if args.cores > 1 else None
    ours, theirs = [], {name: [] for name in pipelines}
    for _ in range(args.rounds):
        if pool:
            ours.append(loader(args.program, args.folder, args.cores, args.seconds))
            for name in pipelines:
                theirs[name].append(together(pool, name, args.cores, args.seconds))
            continue
        ours.append(dinolab(args.program, args.folder, args.seconds))
        for name, pipeline in pipelines.items():
            theirs[name].append(turn(pipeline, files, args.seconds))
    print(f"{'':16} {'images/s':>9} {'dinolab is':>11}  (quartiles), {args.rounds} rounds")
    print(f"{'dinolab':16} {statistics.median(ours):9.1f}")
    for name, rates in theirs.items():
        ratios = sorted(a / b for a, b in zip(ours, rates))
        low, middle, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
        print(f"{name:16} {statistics.median(rates):9.1f} {middle:10.2f}×  ({low:.2f}–{high:.2f})")


if __name__ == "__main__":
    main()
