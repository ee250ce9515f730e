"""The command line: `python -m dinolab`, and the script `dinolab`."""

from __future__ import annotations

import signal
import sys

from dinolab import _dinolab


def main() -> None:
    """Runs the program with the arguments of this process, and exits with its code."""
    # The program handles Ctrl-C itself.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    program = [sys.executable, "-m", "dinolab"]
    sys.exit(_dinolab.run_command_line(program, ["dinolab", *sys.argv[1:]]))


if __name__ == "__main__":
    main()
