"""Tests and times dinolab on an NVIDIA GPU, beside PyTorch. Needs Python with PyTorch, and what pack.sh packed.

    python benches/gpu/measure.py --out figures

Prints a table and writes all figures below --out.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "peers"))

from compare import Server  # noqa: E402

PARTS = ("tests", "steps", "profile")
PROFILED = (64, "bf16")
"""Batch and precision of the profile."""
DURATIONS = {"ns": 1e-6, "µs": 1e-3, "us": 1e-3, "ms": 1.0, "s": 1e3}
"""In milliseconds."""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packed", type=Path, default=HERE / "packed" / "device.tar.xz")
    parser.add_argument("--out", type=Path, default=Path("gpu-figures"), help="folder of the figures")
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--peers", default="eager,compile", help="of eager, compile; empty: none")
    parser.add_argument("--cases", default="64:bf16,64:f32,256:bf16,256:f32", help="batch:precision, separated by commas")
    parser.add_argument("--compile-cases", default="64:bf16,64:f32", help="the same for torch.compile")
    parser.add_argument("--together", type=int, default=2, help="programs on the GPU at a time, of which one computes")
    parser.add_argument("--arch", default="vit_small")
    parser.add_argument("--out-dim", type=int, default=65536, help="prototypes")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each program")
    parser.add_argument("--steps", type=int, default=4, help="steps of a round")
    parser.add_argument("--minutes", type=float, default=9.0, help="nothing is begun after this long")
    parser.add_argument("--program-flags", default="", help="further flags for dinolab only")
    return parser.parse_args()


@dataclass
class Device:
    """Where things are on this machine."""

    folder: Path
    out: Path
    deadline: float

    @property
    def program(self) -> str:
        """The packed dinolab."""
        return str(self.folder / "dinolab")

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()


def unpack(packed: Path, into: Path) -> Path:
    """Unpacks the programs, and puts a link where their fixtures were when they were built."""
    with tarfile.open(packed) as archive:
        archive.extractall(into, filter="data")
    folder = into / "device"
    built_at = Path((folder / "built-at").read_text().strip())
    if not built_at.exists():
        built_at.parent.mkdir(parents=True, exist_ok=True)
        built_at.symlink_to(ROOT)
    return folder


def find_toolkit() -> None:
    """Tells the programs where CUDA's compiler is: CUDA_PATH, the usual folders, beside nvcc, or Python's packages."""
    nvcc = shutil.which("nvcc")
    candidates = [os.environ.get("CUDA_PATH"), "/usr/local/cuda", "/opt/cuda"]
    candidates.append(str(Path(nvcc).resolve().parent.parent) if nvcc else None)
    candidates += sorted(str(path) for root in sys.path for path in Path(root or ".").glob("nvidia/cu[0-9]*"))
    found = [Path(c) for c in candidates if c and (Path(c) / "include" / "cuda_runtime.h").exists()]
    if not found:
        sys.exit("no CUDA toolkit was found, set CUDA_PATH to the folder that has include/cuda_runtime.h")
    os.environ["CUDA_PATH"] = str(found[0])
    folders = [str(found[0] / name) for name in ("lib64", "lib")]
    os.environ["LD_LIBRARY_PATH"] = ":".join([*folders, os.environ.get("LD_LIBRARY_PATH", "")])


def machine(device: Device) -> str:
    """One line about GPU, driver, PyTorch and program."""
    import torch

    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    gpu = subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    feature, revision = ((device.folder / name).read_text().strip() for name in ("feature", "revision"))
    return f"{gpu}; PyTorch {torch.__version__}; dinolab {revision} ({feature})"


def run_test(device: Device, test: str) -> tuple[str, str]:
    """Runs one module of tests, CRATE/MODULE; its name and a line about it."""
    crate, module = test.split("/")
    env = {**os.environ, "DINOLAB_TEST_DEVICE": "cuda:0"}
    log = device.out / f"test-{crate}-{module}.log"
    began = time.monotonic()
    with log.open("w") as file:
        try:
            command = [str(device.folder / f"test-{crate}"), f"{module}::", "--test-threads", "2"]
            subprocess.run(command, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=max(device.left(), 1))
        except subprocess.TimeoutExpired:
            file.write("\nout of time\n")
    text = log.read_text(errors="replace")
    summary = re.findall(r"^test result: (.*); \d+ filtered out", text, re.M)
    failed = re.findall(r"^test (\S+) \.\.\. FAILED$", text, re.M)
    said = summary[-1] if summary else f"no result: {text.strip()[-300:]}"
    return test, " ".join([said, *failed, f"({time.monotonic() - began:.0f} s)"])


def run_tests(device: Device) -> list[tuple[str, str]]:
    """Runs the device tests, some at a time; a line for each module of them."""
    with ThreadPoolExecutor(max_workers=5) as pool:
        results = list(pool.map(lambda test: run_test(device, test), (device.folder / "tests").read_text().split()))
    for result in results:
        print(*result, flush=True)
    return results


class MemoryWatch(threading.Thread):
    """The most GPU memory that a process has held, in MiB, by the driver's own count."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.ended = pid, threading.Event()
        self.own = self.any = 0.0

    @property
    def peak(self) -> float:
        """That of the process; that of any where the driver knows it by another number."""
        return self.own or self.any

    def run(self) -> None:
        query = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
        while not self.ended.wait(0.2):
            lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
            rows = [line.split(",") for line in lines if "," in line]
            used = [(row[0].strip(), float(row[1])) for row in rows if row[1].strip().isdigit()]
            self.own = max([self.own, *(mib for pid, mib in used if pid == str(self.pid))])
            self.any = max([self.any, *(mib for _, mib in used)])


def cases_of(text: str) -> list[tuple[int, str]]:
    """Batch and precision from `64:bf16,256:f32`."""
    return [(int(batch), precision) for batch, precision in (case.split(":") for case in text.split(",") if case)]


class Timed:
    """A program that times one case when it is its turn."""

    def __init__(self, args: argparse.Namespace, device: Device, name: str, case: tuple[int, str]) -> None:
        batch, precision = case
        flags = ["--arch", args.arch, "--batch-size", str(batch), "--out-dim", str(args.out_dim)]
        flags += ["--device", "cuda", "--precision", precision, "--warmup", "3", "--serve"]
        if name == "dinolab":
            command = [device.program, "bench", "step", *flags, *args.program_flags.split()]
        else:
            script = str(HERE.parent / "peers" / "step.py")
            command = [sys.executable, script, "--mode", name.removeprefix("PyTorch "), *flags]
        self.args, self.batch = args, batch
        self.row = {"program": name, "batch": batch, "precision": precision}
        self.server = Server(name, command)
        self.server.start()
        self.watch = MemoryWatch(self.server.process.pid)
        self.watch.start()
        self.killer = threading.Timer(max(device.left(), 1), self.server.process.kill)
        self.killer.start()

    def warm(self) -> None:
        """Waits until it is warm, if it gets there."""
        try:
            self.server.step(1)
        except SystemExit:
            pass  # Found again when it is measured.

    def measure(self) -> dict:
        """Waits until it is warm, measures, ends it."""
        try:
            self.server.step(1)
            rounds = [self.server.step(self.args.steps)["ms"] for _ in range(self.args.rounds)]
            ms = statistics.median(rounds)
            self.row.update(ms=ms, rounds=rounds, images_per_s=1e3 * self.batch / ms)
        except SystemExit as end:
            self.row["failed"] = str(end).split(":")[0]
        finally:
            self.killer.cancel()
            self.server.stop()
            self.watch.ended.set()
            self.watch.join()
        self.row["memory_mib"] = self.watch.peak
        print(json.dumps({k: v for k, v in self.row.items() if k != "rounds"}), flush=True)
        return self.row


def time_steps(args: argparse.Namespace, device: Device, meanwhile: Callable[[], None]) -> list[dict]:
    """Times steps. Some programs at a time start side by side, since compiling takes them long; then each is
    measured while the others wait. `meanwhile` is called once, while the last ones start."""
    names = ["dinolab", *(f"PyTorch {mode}" for mode in args.peers.split(",") if mode)]
    todo = []
    for name in names:
        cases = cases_of(args.compile_cases if name == "PyTorch compile" else args.cases)
        todo += [(name, cases[i : i + args.together]) for i in range(0, len(cases), args.together)]
    rows = []
    for i, (name, cases) in enumerate(todo):
        if device.left() < 20:
            rows += [{"program": name, "batch": b, "precision": p, "failed": "no time was left"} for b, p in cases]
            continue
        started = [Timed(args, device, name, case) for case in cases]
        if i + 1 == len(todo):
            meanwhile()
        for one in started:
            one.warm()
        rows += [one.measure() for one in started]
        (device.out / "steps.json").write_text(json.dumps(rows, indent=1))
    return rows


def profile(args: argparse.Namespace, device: Device) -> list[tuple[str, int, float]]:
    """The kernels of some steps by their total time: name, launches, milliseconds."""
    batch, precision = PROFILED
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "kernels.log"
        config = f'[profiling]\nlogger = {{ level = "medium", file = "{log}" }}\n'
        Path(folder, "cubecl.toml").write_text(config)
        command = [device.program, "bench", "step", "--arch", args.arch, "--batch-size", str(batch)]
        command += ["--out-dim", str(args.out_dim), "--device", "cuda", "--precision", precision]
        command += ["--warmup", "2", "--steps", "1", *args.program_flags.split()]
        with (device.out / "profile-run.log").open("w") as file:
            try:
                subprocess.run(command, cwd=folder, stdout=file, stderr=subprocess.STDOUT, timeout=max(device.left(), 1))
            except subprocess.TimeoutExpired:
                file.write("\nout of time\n")
        text = log.read_text(errors="replace") if log.exists() else ""
    (device.out / "profile-raw-head.txt").write_text(text[:20_000])
    found: dict[str, list[float]] = defaultdict(list)
    for number, unit, name in re.findall(r"\|\s*([\d.]+)(ns|µs|us|ms|s)\s*\|\s*(.+?)\s*$", text, re.M):
        found[name].append(float(number) * DURATIONS[unit])
    # The first launch includes compiling; it counts as the median of the others.
    totals = {n: sum(t[1:]) + statistics.median(t[1:]) for n, t in found.items() if len(t) > 1}
    kernels = sorted(((n, len(found[n]), total) for n, total in totals.items()), key=lambda kernel: -kernel[2])
    (device.out / "profile.json").write_text(json.dumps(kernels, indent=1))
    return kernels


def table(rows: list[dict]) -> str:
    """The steps as Markdown; ratios above 1 are in favour of dinolab."""
    lines = ["| batch | precision | program | ms | images/s | ms / dinolab's | memory, MiB |", "|---|---|---|---|---|---|---|"]
    own: dict[tuple, float] = {}
    for row in rows:
        case = (row["batch"], row["precision"])
        start = f"| {case[0]} | {case[1]} | {row['program']} |"
        if "ms" not in row:
            lines.append(f"{start} {row.get('failed', 'failed')} | | | {row.get('memory_mib', 0):.0f} |")
            continue
        if row["program"] == "dinolab":
            own[case] = row["ms"]
        ratio = f"{row['ms'] / own[case]:.2f}" if case in own else "–"
        lines.append(f"{start} {row['ms']:.1f} | {row['images_per_s']:.0f} | {ratio} | {row['memory_mib']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Unpacks, tests, measures, prints."""
    args = arguments()
    parts = [part for part in args.only.split(",") if part]
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"--only: {', '.join(sorted(unknown))} is not one of {', '.join(PARTS)}")
    if not args.packed.exists():
        sys.exit(f"{args.packed}: not there; benches/gpu/pack.sh makes it on a machine with Rust")
    args.out.mkdir(parents=True, exist_ok=True)
    find_toolkit()
    with tempfile.TemporaryDirectory() as folder:
        deadline = time.monotonic() + 60 * args.minutes
        device = Device(unpack(args.packed, Path(folder)), args.out.resolve(), deadline)
        said = [machine(device), ""]
        print(said[0], flush=True)
        tests: list[tuple[str, str]] = []

        def test() -> None:
            if "tests" in parts:
                tests.extend(run_tests(device))

        if "steps" in parts:
            said += [table(time_steps(args, device, test)), ""]
        else:
            test()
        said += [f"{name}: {result}" for name, result in tests] + [""]
        if "profile" in parts and device.left() > 20:
            kernels = profile(args, device)
            total = sum(ms for _, _, ms in kernels)
            said.append(f"kernels of three steps (batch {PROFILED[0]}, {PROFILED[1]}): {sum(n for _, n, _ in kernels)} launches, {total:.0f} ms")
            said += [f"{ms:9.1f} ms {ms / total:5.1%} {count:6d} × {name[:110]}" for name, count, ms in kernels[:25]]
    text = "\n".join(said)
    (args.out / "table.md").write_text(text + "\n")
    print("\n" + text)


if __name__ == "__main__":
    main()
