"""Compares the JPEG decoder with libjpeg-turbo, on one thread each.

    cargo build --release -p dinolab-jpeg --examples
    pip install pillow numpy simplejpeg
    python benches/peers/jpeg.py FOLDER [--peer simplejpeg] [--rounds 10] [--scale 1]

`simplejpeg` calls libjpeg-turbo directly. `pillow`, by which most Python programs read images, adds the
opening of the file and a copy of the pixels.

FOLDER holds JPEGs and nothing else. Both sides keep the files in memory and decode all of them in
alternating rounds; the ratio is taken within each round. What is compared is CPU time, so that other work
on the machine disturbs less; it is read from `/proc`, hence Linux only. With a scale, Pillow
uses libjpeg's (`Image.draft`), whose pixels differ.
"""

import argparse
import io
import os
import pathlib
import statistics
import subprocess
import time

import numpy as np
from PIL import Image, features

arguments = argparse.ArgumentParser()
arguments.add_argument("folder", type=pathlib.Path)
arguments.add_argument("--peer", choices=["simplejpeg", "pillow"], default="simplejpeg")
arguments.add_argument("--rounds", type=int, default=10)
arguments.add_argument("--scale", type=int, default=1, choices=[1, 2, 4, 8])
arguments = arguments.parse_args()
if arguments.scale > 1 and arguments.peer != "pillow":
    raise SystemExit("--scale needs --peer pillow")

root = pathlib.Path(__file__).parents[2]
examples = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", root / "target")) / "release/examples"
files = sorted(arguments.folder.iterdir())
contents = [file.read_bytes() for file in files]


def opened(content):
    image = Image.open(io.BytesIO(content))
    if arguments.scale > 1:
        image.draft("RGB", tuple(side // arguments.scale for side in image.size))
    return image if image.mode == "RGB" else image.convert("RGB")


if arguments.peer == "simplejpeg":
    import simplejpeg

    version = f"libjpeg-turbo in simplejpeg {simplejpeg.__version__}"
    decode = simplejpeg.decode_jpeg
else:
    version = f"libjpeg-turbo {features.version('libjpeg_turbo')} in Pillow {Image.__version__}"
    decode = lambda content: opened(content).load()


def by_peer():
    began = time.process_time()
    for content in contents:
        decode(content)
    return time.process_time() - began


process = subprocess.Popen(
    [examples / "throughput", arguments.folder, str(arguments.scale)],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
)


def cpu_seconds():
    """CPU time of the other process."""
    nanoseconds = pathlib.Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]
    return int(nanoseconds) / 1e9


def by_dinolab():
    began = cpu_seconds()
    process.stdin.write("\n")
    process.stdin.flush()
    _, pixels = process.stdout.readline().split()
    return cpu_seconds() - began, int(pixels)


by_peer(), by_dinolab()
ours, theirs = [], []
for _ in range(arguments.rounds):
    seconds, pixels = by_dinolab()
    ours.append(seconds)
    theirs.append(by_peer())
process.stdin.close()

print(f"{len(files)} files, {sum(map(len, contents)) / 1e6:.1f} MB, {pixels / 1e6:.1f} megapixels decoded")
print(version)
for name, seconds in [("dinolab-jpeg", ours), (arguments.peer, theirs)]:
    print(f"{name:>12}: {pixels / 1e6 / statistics.median(seconds):.1f} megapixels per CPU second (median)")
ratios = sorted(b / a for a, b in zip(ours, theirs))
print(f"dinolab-jpeg is {statistics.median(ratios):.2f}× as fast ({ratios[0]:.2f}–{ratios[-1]:.2f})")

if arguments.scale == 1:
    # The same pixels? Files that the crate hands to another decoder may differ by a few levels.
    differing = 0
    for file, content in list(zip(files, contents))[:100]:
        ppm = subprocess.run([examples / "decode", "--ppm", file], capture_output=True, check=True).stdout
        found = np.asarray(Image.open(io.BytesIO(ppm)))
        differing += not np.array_equal(found, np.asarray(opened(content)))
    print(f"pixels differ in {differing} of the first {min(len(files), 100)} files")
