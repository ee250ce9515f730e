"""Times whole epochs of training, from files to updated weights: dinolab and PyTorch in turns.

    python train.py imagenette128/train --program target/release/dinolab --rounds 3

The peer is the reference's way: Pillow and torchvision in loader processes, an eager step. Defaults
are the run on Imagenette that docs/benchmarks.md records. dinolab is stopped (SIGSTOP) while the peer
works, and the peer waits while dinolab works. The first epoch of each is not counted.
"""

from __future__ import annotations

import argparse
import math
import os
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from crops import pillow  # Before PyTorch: it settles the threads of libraries.

import torch
from torch.utils.data import DataLoader, Dataset

import serving
from dino import Dino, StepConfig, StepValues
from model import HeadConfig, VitConfig


def arguments() -> argparse.Namespace:
    """The command line; flags that dinolab has too go to both."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("images", help="folder of JPEG files, at any depth")
    parser.add_argument("--program", default="target/release/dinolab")
    parser.add_argument("--rounds", type=int, default=3, help="measured epochs of each (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="of dinolab, and of the peer's step")
    parser.add_argument("--loader-processes", type=int, default=2, help="of the peer")
    both = parser.add_argument_group("for both")
    for name, kind, default in (
        ("width", int, 128),
        ("depth", int, 6),
        ("heads", int, 2),
        ("patch-size", int, 8),
        ("global-crops-size", int, 48),
        ("local-crops-size", int, 24),
        ("local-crops-number", int, 4),
        ("batch-size", int, 64),
        ("epochs", int, 27),
        ("out-dim", int, 1024),
        ("lr", float, 0.002),
        ("min-lr", float, 1e-6),
        ("warmup-epochs", int, 3),
        ("weight-decay", float, 0.04),
        ("weight-decay-end", float, 0.4),
        ("momentum-teacher", float, 0.99),
        ("teacher-temp", float, 0.04),
        ("clip-grad", float, 3.0),
        ("freeze-last-layer", int, 1),
        ("drop-path-rate", float, 0.05),
    ):
        both.add_argument(f"--{name}", type=kind, default=default)
    both.add_argument("--norm-last-layer", type=serving.boolean, default=True)
    args = parser.parse_args()
    args.both = [action.dest for action in both._group_actions]
    return args


class Files(Dataset):
    """The crops of each file, drawn anew at every visit."""

    def __init__(self, paths: list[Path], args: argparse.Namespace) -> None:
        sides = (args.global_crops_size, args.local_crops_size)
        kinds = [
            (sides[0], (0.4, 1.0), 1.0, 0.0),
            (sides[0], (0.4, 1.0), 0.1, 0.2),
            (sides[1], (0.05, 0.4), 0.5, 0.0),
        ]
        self.paths, self.pipeline = paths, pillow(kinds, args.local_crops_number)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> list[torch.Tensor]:
        return self.pipeline(self.paths[index].read_bytes())


class Peer:
    """Training in PyTorch, epoch by epoch."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        vit = VitConfig(
            args.global_crops_size, args.patch_size, args.width, args.heads, args.depth, args.drop_path_rate
        )
        head = HeadConfig(args.out_dim, norm_last_layer=args.norm_last_layer)
        self.dino = Dino(StepConfig(vit, head, clip_grad=args.clip_grad), torch.device("cpu"))
        files = Files(sorted(Path(args.images).rglob("*.jp*g")), args)
        self.loader = DataLoader(
            files,
            batch_size=args.batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=args.loader_processes,
            persistent_workers=args.loader_processes > 0,
        )
        if len(self.loader) == 0:
            raise SystemExit(f"{args.images}: fewer than {args.batch_size} JPEG files")
        self.images = len(self.loader) * args.batch_size
        self.step = 0

    def values(self) -> StepValues:
        """What the schedules say now."""
        args, per_epoch = self.args, len(self.loader)
        steps, warmup = args.epochs * per_epoch, args.warmup_epochs * per_epoch

        def cosine(start: float, end: float, first: int = 0) -> float:
            share = min((self.step - first) / max(steps - first, 1), 1.0)
            return end + (start - end) * (1 + math.cos(math.pi * share)) / 2

        top = args.lr * args.batch_size / 256
        rising = self.step < warmup
        return StepValues(
            lr=top * self.step / max(warmup - 1, 1) if rising else cosine(top, args.min_lr, warmup),
            weight_decay=cosine(args.weight_decay, args.weight_decay_end),
            momentum=cosine(args.momentum_teacher, 1.0),
            teacher_temp=args.teacher_temp,
            freeze_last_layer=self.step < args.freeze_last_layer * per_epoch,
        )

    def epoch(self) -> tuple[float, float]:
        """Trains for an epoch; gives its seconds and its mean loss."""
        began, losses = time.perf_counter(), []
        for crops in self.loader:
            views = [torch.cat(crops[:2])]
            if len(crops) > 2:
                views.append(torch.cat(crops[2:]))
            losses.append(self.dino.step(views, self.values()).item())
            self.step += 1
        return time.perf_counter() - began, statistics.mean(losses)


class Program:
    """dinolab in a process of its own, which only runs when it is its turn."""

    def __init__(self, args: argparse.Namespace, run: Path) -> None:
        self.metrics = run / "metrics.jsonl"
        threads = str(args.threads)
        flags = ["--arch", "custom", "--num-workers", threads, "--eval-every", "0", "--out", str(run)]
        for name in args.both:
            value = getattr(args, name)
            said = str(value).lower() if isinstance(value, bool) else str(value)
            flags += [f"--{name.replace('_', '-')}", said]
        self.process = subprocess.Popen(
            [args.program, "train", args.images, *flags],
            env={**os.environ, "RAYON_NUM_THREADS": threads},
            stdout=subprocess.DEVNULL,
        )
        self.done = 0
        self.epoch(resume=False)

    def ended_epochs(self) -> int:
        """Epochs that its metrics tell of."""
        if not self.metrics.exists():
            return 0
        return sum('"kind":"epoch"' in line for line in self.metrics.read_text().splitlines())

    def epoch(self, resume: bool = True) -> float:
        """Lets it run until the next epoch has ended; gives the seconds."""
        began = time.perf_counter()
        if resume:
            self.process.send_signal(signal.SIGCONT)
        while self.ended_epochs() == self.done:
            if self.process.poll() is not None:
                raise SystemExit(f"dinolab ended, status {self.process.returncode}")
            time.sleep(0.01)
        seconds = time.perf_counter() - began
        self.process.send_signal(signal.SIGSTOP)
        self.done += 1
        return seconds

    def end(self) -> None:
        """Ends it, wherever it is."""
        self.process.kill()
        self.process.wait()


def main() -> None:
    """Both in turns, and the table."""
    args = arguments()
    if args.rounds >= args.epochs:
        raise SystemExit("--rounds must be below --epochs")
    torch.set_num_threads(args.threads)
    peer = Peer(args)
    peer.epoch()
    ours, theirs = [], []
    with tempfile.TemporaryDirectory() as folder:
        program = Program(args, Path(folder) / "run")
        try:
            for round_ in range(1, args.rounds + 1):
                ours.append(peer.images / program.epoch())
                seconds, loss = peer.epoch()
                theirs.append(peer.images / seconds)
                print(f"round {round_}: {ours[-1]:.1f} and {theirs[-1]:.1f} images/s, the peer's loss {loss:.3f}", flush=True)
        finally:
            program.end()
    ratios = [a / b for a, b in zip(ours, theirs)]
    print(f"dinolab {statistics.median(ours):.1f} images/s, PyTorch {statistics.median(theirs):.1f} images/s")
    print(f"dinolab is {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f}–{max(ratios):.2f}), {len(ratios)} rounds")


if __name__ == "__main__":
    main()
