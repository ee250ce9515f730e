"""Features of many images, by shards that are killed: whole in the end, each image once, and those of a single run.

    python3 benches/cluster/parts.py dinolab WEIGHTS OUT [--images 100000] [--kills 30] [--parts 500] [-- FLAGS …]

`dinolab` is built with the feature `parquet`; WEIGHTS are of any network. Made JPEGs of 32 px, in OUT:

1. one process to a `.npy` file, then eight shards in turn to a folder: seconds of each, images/s, and their ratio;
2. eight shards to another folder, two processes at each at the same time, `kill -9` of a random process at random
   times; whatever is visible then is whole (`embed --verify` names missing parts only). Every shard runs once more:
   `--verify` finds every image once, and the features are those of the `.npy` file bit for bit.

FLAGS go to `dinolab embed`. Needs NumPy, Pillow and PyArrow.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet
from PIL import Image

SHARDS = 8


def make(folder: Path, images: int) -> None:
    """Images of smooth noise, a thousand in a folder."""
    rng = np.random.default_rng(0)
    for number in range(images):
        path = folder / f"{number // 1000:03d}" / f"{number:06d}.jpg"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
            small.resize((32, 32), Image.Resampling.BICUBIC).save(path, quality=85)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dinolab")
    parser.add_argument("weights")
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--parts", type=int, default=500, help="images of a part where processes are killed")
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    more = [flag for flag in more if flag != "--"]
    rng = random.Random(args.seed)
    photos = args.out / "photos"
    make(photos, args.images)
    for folder in ("one", "turns", "killed"):
        shutil.rmtree(args.out / folder, ignore_errors=True)

    def command(out: str, *flags: str) -> list[str]:
        return [args.dinolab, "-q", "embed", "--weights", args.weights, str(photos), "--out", str(args.out / out), *flags, *more]

    def shard(out: str, number: int, *flags: str) -> list[str]:
        return command(out, "--format", "parquet", "--shard", f"{number}/{SHARDS}", *flags)

    def seconds(*commands: list[str]) -> float:
        began = time.monotonic()
        for one in commands:
            subprocess.run(one, check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - began

    one = seconds(command("single.npy"))
    alone = seconds(command("one", "--format", "parquet"))
    turns = seconds(*(shard("turns", number) for number in range(1, SHARDS + 1)))
    print(f"one .npy {one:.1f} s; one folder {alone:.1f} s, {args.images / alone:.0f} images/s; "
          f"{SHARDS} shards in turn {turns:.1f} s, ratio {turns / alone:.3f}", flush=True)  # fmt: skip

    def verify(out: str) -> subprocess.CompletedProcess:
        return subprocess.run([args.dinolab, "embed", "--verify", str(args.out / out)], capture_output=True, text=True)

    def start(number: int) -> subprocess.Popen:
        return subprocess.Popen(shard("killed", number, "--part-size", str(args.parts)),
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip

    killed = 0
    while killed < args.kills:
        number = rng.randint(1, SHARDS)
        both = [start(number), start(number)]
        # From within the start of a process to within its parts, of which some are left to the last.
        time.sleep(rng.uniform(0.2, 0.7 + 2 * alone / args.kills))
        victim = rng.choice(both)
        if victim.poll() is None:
            victim.kill()
            killed += 1
        for process in both:
            # The other one, at the same parts, is killed as well: little is done at a time.
            if process.poll() is None:
                process.kill()
                killed += process is not victim
            process.wait()
        told = verify("killed")
        if told.returncode == 0:
            sys.exit(f"whole after {killed} kills: give fewer --kills, or more --images")
        if re.search(r"are wrong|not those of the set", told.stderr):
            sys.exit(f"after {killed} kills: {told.stderr}")
    visible = len(list((args.out / "killed").glob("*.parquet")))
    print(f"killed {killed} processes; {visible} parts were there, none of them wrong", flush=True)
    for number in range(1, SHARDS + 1):
        seconds(shard("killed", number, "--part-size", str(args.parts)))
    told = verify("killed")
    print(told.stdout.strip() or told.stderr.strip())
    expected = np.load(args.out / "single.npy")
    paths = (args.out / "single.paths.txt").read_text().splitlines()
    for out in ("turns", "killed"):
        table = pyarrow.parquet.read_table(args.out / out, columns=["path", "feature"])
        features = np.stack(table["feature"].to_numpy())
        same = table["path"].to_pylist() == paths and np.array_equal(features, expected)
        print(f"{out}: {'bit for bit those of the file' if same else 'DIFFERENT'}")
        if not same or told.returncode:
            sys.exit(1)


if __name__ == "__main__":
    main()
