"""Times dinolab against PyTorch, in turns, so that a change of the machine's mood hits all alike.

    python compare.py step --program target/release/dinolab --arch vit_small --batch-size 8
    python compare.py embed --program target/release/dinolab --peers eager

Flags that are not listed by --help go to all programs as they are.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Settings that could keep the threads of a waiting peer busy; taken out of its environment."""


@dataclass
class Server:
    """A measured program that waits for its turn."""

    name: str
    command: list[str]
    rounds: list[dict[str, float]] = field(default_factory=list)

    def start(self) -> None:
        """Starts the program; it reports nothing until it is asked."""
        self.process = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={k: v for k, v in os.environ.items() if k not in SPINNING},
            text=True,
        )

    def step(self, steps: int) -> dict[str, float]:
        """Runs `steps` steps and returns the figures per step."""
        try:
            self.process.stdin.write(f"step {steps}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # The reason is on stderr; reading ends below.
        for line in self.process.stdout:
            try:
                figures = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(figures, dict) and "ms" in figures:
                return figures
        sys.exit(f"{self.name} ended early, status {self.process.wait()}: {shlex.join(self.command)}")

    def stop(self) -> None:
        """Ends the program by ending its input."""
        process = getattr(self, "process", None)
        if process is None:
            return
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def median(self, key: str) -> float | None:
        """Median of a figure over the rounds; `None` where it was not reported."""
        values = [r[key] for r in self.rounds if key in r]
        return statistics.median(values) if values else None

    def peak(self) -> float | None:
        """Largest resident memory, in MiB."""
        return max((r["peak_rss_mb"] for r in self.rounds if "peak_rss_mb" in r), default=None)


def arguments() -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the flags in it that are for the measured programs."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=("step", "embed"))
    parser.add_argument(
        "--program",
        help="dinolab: the binary, or a whole command in quotes; none: peers only",
    )
    parser.add_argument("--program-flags", default="", help="further flags for dinolab only")
    parser.add_argument("--peer-flags", default="", help="further flags for the peers only")
    parser.add_argument("--peers", help="of eager, compile; default: step: both, embed: eager")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds (default 9)")
    parser.add_argument("--steps", type=int, default=1, help="steps in a turn (default 1)")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the peers")
    parser.add_argument("--json", action="store_true", help="print all rounds as JSON instead")
    args, common = parser.parse_known_args()
    if args.rounds < 1 or args.steps < 1:
        parser.error("--rounds and --steps must be at least 1")
    return args, common


def servers(args: argparse.Namespace, common: list[str]) -> list[Server]:
    """The programs to compare, dinolab first."""
    found = []
    if args.program:
        command = shlex.split(args.program)
        if len(command) == 1:
            command += ["bench", args.what]
        command += [*common, *shlex.split(args.program_flags)]
        if "--serve" not in command:
            command.append("--serve")
        found.append(Server("dinolab", command))
    default = "eager,compile" if args.what == "step" else "eager"
    for mode in filter(None, (args.peers if args.peers is not None else default).split(",")):
        if mode not in ("eager", "compile"):
            sys.exit(f"--peers: {mode!r} is neither eager nor compile")
        command = [args.python, str(HERE / f"{args.what}.py"), "--mode", mode, *common]
        command += [*shlex.split(args.peer_flags), "--serve"]
        found.append(Server(f"PyTorch {mode}", command))
    if not found:
        sys.exit("nothing to measure")
    return found


def number(value: float | None, digits: int = 0) -> str:
    """A table cell."""
    return "–" if value is None else f"{value:.{digits}f}"


def table(programs: list[Server]) -> str:
    """The results as Markdown; ratios above 1 are in favour of the first program."""
    first, *others = programs
    lines = [
        f"| program | median ms | ms / {first.name}'s: median (quartiles) | peak RSS, MiB | / {first.name}'s |",
        "|---|---|---|---|---|",
        f"| {first.name} | {number(first.median('ms'), 1)} | 1 | {number(first.peak())} | 1 |",
    ]
    for other in others:
        ratios = [b["ms"] / a["ms"] for a, b in zip(first.rounds, other.rounds)]
        ratio = f"{statistics.median(ratios):.3f}"
        if len(ratios) > 1:
            low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
            ratio += f" ({low:.3f}–{high:.3f})"
        a, b = first.peak(), other.peak()
        memory = number(b / a, 2) if a and b else "–"
        lines.append(f"| {other.name} | {number(other.median('ms'), 1)} | {ratio} | {number(b)} | {memory} |")
    return "\n".join(lines)


def main() -> None:
    """Starts all programs, gives each its turn, prints the table."""
    args, common = arguments()
    programs = servers(args, common)
    try:
        # One after the other: each has warmed up and waits before the next one starts. The
        # turn that shows this is not counted.
        for program in programs:
            program.start()
            figures = program.step(args.steps)
            print(f"{program.name} is ready ({figures['ms']:.1f} ms)", file=sys.stderr)
        for round_ in range(1, args.rounds + 1):
            for program in programs:
                program.rounds.append(program.step(args.steps))
            said = ", ".join(f"{p.name} {p.rounds[-1]['ms']:.1f} ms" for p in programs)
            print(f"round {round_}: {said}", file=sys.stderr)
    finally:
        for program in programs:
            program.stop()
    if args.json:
        print(json.dumps({p.name: p.rounds for p in programs}, indent=1))
    else:
        print(table(programs))


if __name__ == "__main__":
    main()
