"""What the measured programs share: flags and the line protocol.

A server prints one JSON line for every line `step N` that it reads, and ends with its input.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
from typing import Callable

import torch

Measure = Callable[[int], dict[str, float]]
"""Runs a number of steps and returns their figures, per step."""


def boolean(text: str) -> bool:
    """`true` or `false`."""
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text == "true"


def add_common(parser: argparse.ArgumentParser) -> None:
    """Flags that every measured program has."""
    parser.add_argument("--threads", type=int, default=0, help="0: as many as PyTorch likes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--mode", choices=("eager", "compile"), default="eager")
    parser.add_argument("--warmup", type=int, default=2, help="steps before anything is measured")
    parser.add_argument("--steps", type=int, default=1, help="measured steps, without --serve")
    parser.add_argument("--serve", action="store_true", help="answer lines `step N` from stdin")


def set_up(args: argparse.Namespace) -> torch.device:
    """Threads, seed and device of a measured program."""
    if args.threads > 0:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return torch.device(args.device)


def settle(device: torch.device) -> None:
    """Waits for work that has been handed to the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def peak_rss_mb() -> float:
    """Largest resident memory of this process so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def answer(figures: dict[str, float]) -> None:
    """Prints figures as one line."""
    print(json.dumps({k: round(v, 3) for k, v in figures.items()}), flush=True)


def run(measure: Measure, args: argparse.Namespace) -> None:
    """Warms up, then measures `--steps` once or whatever is asked for on stdin."""
    if args.warmup > 0:
        measure(args.warmup)
    if not args.serve:
        answer(measure(args.steps))
        return
    # Line by line: iterating over stdin reads ahead.
    while line := sys.stdin.readline():
        words = line.split()
        if len(words) != 2 or words[0] != "step" or not words[1].isdecimal() or words[1] == "0":
            sys.exit(f"expected `step N`, not {line!r}")
        answer(measure(int(words[1])))
