"""Several processes against one: losses, weights, kills, other numbers of processes.

    python3 benches/cluster/ranks.py dinolab TRAIN VAL OUT [--methods dino …] [--kills 10] [-- FLAGS …]

`dinolab` is built with the feature `mpi`. For each method, two epochs of a small network:

1. one process, and `mpirun -n 1, 2, 4`: the largest difference of a step's loss, and the relative difference of the
   final weights (root mean square, all networks; biases before batch normalisation, whose gradients are rounding, apart);
2. the same with `--reproducible-ranks 4`: `metrics.jsonl` and every tensor bit for bit;
3. `kill -9` of a random process, again and again, each time resumed by another number of processes: as 2.

Needs NumPy.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

SETTINGS = """--recipe paper --arch custom --width 64 --depth 4 --heads 2 --patch-size 8 --global-crops-size 48
--local-crops-number 4 --local-crops-size 24 --batch-size 64 --epochs 2 --warmup-epochs 0.5 --drop-path-rate 0.05
--patch-drop-rate 0.25 --eval-resize 55 --eval-crop 48 --eval-every 1 --attention-images 0 --log-every 1
--checkpoint-every-steps 8 --num-workers 1""".split()
OF_METHOD = {
    "dino": ["--out-dim", "1024", "--head-hidden-dim", "256"],
    "sinkhorn": ["--out-dim", "256", "--head-hidden-dim", "256", "--centering", "sinkhorn"],
    "terms": ["--out-dim", "256", "--head-hidden-dim", "256", "--koleo-weight", "0.1", "--sigreg-weight", "0.05"],
    "lejepa": [],
    "visreg": [],
    "simdino": [],
    "dinov2": ["--patch-drop-rate", "0", "--out-dim", "256", "--ibot-out-dim", "256", "--head-hidden-dim", "256"],
    "distill": [],
}
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"]
# Moments; of distillation, statistics of the targets and a checksum, whose values would outweigh all weights.
NO_WEIGHTS = ("optimiser", "targets", "teacher.checksum")
# Under batch normalisation a bias before it changes nothing.
VANISHING = ("backbone.norm.bias", "head.mlp.0.bias", "head.mlp.3.bias")


def tensors(run: Path) -> dict[str, np.ndarray]:
    newest = run / "checkpoints" / (run / "checkpoints" / "latest").read_text()
    data = newest.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    found = {}
    for name, facts in header.items():
        if name != "__metadata__":
            begin, end = facts["data_offsets"]
            found[name] = np.frombuffer(body[begin:end], np.float32)
    return found


def losses(run: Path) -> np.ndarray:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return np.array([line["loss"] for line in lines if line["kind"] == "train"])


def difference(a: dict, b: dict, method: str) -> float:
    squares = whole = 0.0
    for name, one in a.items():
        apart = method in ("lejepa", "visreg") and name.endswith(VANISHING)
        if not name.startswith(NO_WEIGHTS) and not apart:
            squares += float(np.square(one.astype(np.float64) - b[name]).sum())
            whole += float(np.square(one.astype(np.float64)).sum())
    return (squares / whole) ** 0.5


def equal(a: Path, b: Path) -> bool:
    one, other = tensors(a), tensors(b)
    same = one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
    return same and (a / "metrics.jsonl").read_bytes() == (b / "metrics.jsonl").read_bytes()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("dinolab")
    parser.add_argument("train")
    parser.add_argument("val")
    parser.add_argument("out", type=Path)
    parser.add_argument("--methods", nargs="*", default=list(OF_METHOD))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    rng = random.Random(args.seed)
    held = True

    def command(method: str, out: Path, *flags: str) -> list[str]:
        name = "dino" if method in ("sinkhorn", "terms") else method
        return [args.dinolab, "train", args.train, "--val", args.val, "--out", str(out), "-q", "--method", name,
                *SETTINGS, *OF_METHOD[method], *flags, *more]  # fmt: skip

    def run(launcher: list[str], method: str, out: Path, *flags: str) -> None:
        shutil.rmtree(out, ignore_errors=True)
        done = subprocess.run([*launcher, *command(method, out, *flags)], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{out}: exit code {done.returncode}\n{done.stderr[-2000:]}")

    def launch(processes: int) -> list[str]:
        return [*MPIRUN, "-n", str(processes)]

    def killed(method: str, out: Path) -> int:
        """A run with random kills; returns how many met a process."""
        shutil.rmtree(out, ignore_errors=True)
        kills = 0
        # Long enough for a few steps more than a checkpoint, short enough to be far from the end.
        while kills < args.kills:
            processes = rng.choice([1, 2, 4])
            started = subprocess.Popen([*launch(processes), *command(method, out, "--reproducible-ranks", "4")],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
            time.sleep(rng.uniform(1.0, 6.0))
            children = subprocess.run(["pgrep", "-P", str(started.pid), "-f", Path(args.dinolab).name], capture_output=True, text=True)
            ranks = children.stdout.split()
            if started.poll() is not None or not ranks:
                started.wait()
                if started.returncode == 0:
                    break
                continue
            subprocess.run(["kill", f"-{signal.SIGKILL}", rng.choice(ranks)], check=False)
            began = time.monotonic()
            started.wait(timeout=60)
            kills += 1
            print(f"    kill {kills} of {processes}: code {started.returncode}, ended in {time.monotonic() - began:.1f} s", flush=True)
        while True:
            done = subprocess.run([*launch(rng.choice([1, 2, 4])), *command(method, out, "--reproducible-ranks", "4")],
                                  capture_output=True, text=True)  # fmt: skip
            if done.returncode == 0:
                return kills
            print(done.stderr[-500:])

    if "distill" in args.methods:
        teacher = args.out / "teacher"
        run([], "lejepa", teacher, "--epochs", "1", "--warmup-epochs", "0")
        OF_METHOD["distill"] = ["--teacher-weights", str(teacher), "--local-crops-number", "0", "--patch-drop-rate", "0"]
    for method in args.methods:
        one = args.out / f"{method}-one"
        run([], method, one)
        for processes in (1, 2, 4):
            several = args.out / f"{method}-{processes}"
            run(launch(processes), method, several)
            apart = np.abs(losses(one) - losses(several)).max()
            weights = difference(tensors(one), tensors(several), method)
            fine = apart <= 1e-4 and weights <= 1e-3
            held &= fine
            print(f"{method:9} {processes}: loss within {apart:.1e}, weights within {weights:.1e}{'' if fine else '  TOO FAR'}", flush=True)
        one = args.out / f"{method}-one-4"
        run([], method, one, "--reproducible-ranks", "4")
        for processes in (1, 2, 4):
            several = args.out / f"{method}-{processes}-4"
            run(launch(processes), method, several, "--reproducible-ranks", "4")
            same = equal(one, several)
            held &= same
            print(f"{method:9} {processes}, 4 shards: {'bit for bit' if same else 'DIFFERENT'}", flush=True)
        several = args.out / f"{method}-killed"
        kills = killed(method, several)
        same = equal(one, several)
        held &= same and kills == args.kills
        print(f"{method:9} killed {kills} times: {'bit for bit' if same else 'DIFFERENT'}", flush=True)
    sys.exit(0 if held else 1)


if __name__ == "__main__":
    main()
