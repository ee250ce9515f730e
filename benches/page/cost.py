"""What the page of `dinolab train --view` costs a run, with a reader that follows it all the time.

    python benches/page/cost.py --program target/release/dinolab

Runs alternate without and with the page. Printed are the median images per second of both, their ratio, and
the processor time of the page beside the run's, which other work on the machine does not disturb.
"""

import argparse
import http.client
import json
import os
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def follow(url, read):
    """Reads the page's events until it ends."""
    try:
        with urllib.request.urlopen(url + "api/events") as events:
            while part := events.read1(65536):
                read.append(len(part))
    except (OSError, http.client.HTTPException):
        pass


def run(program, page, epochs):
    """Images per second of each logged step, and processor seconds of the run and of its page."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program, "train", "--out", folder + "/run", "--shapes-images", "512", "--batch-size", "32",
                   "--epochs", str(epochs), "--eval-every", "1", "--log-every", "2", *(["--view"] if page else [])]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        read, pages = [], []
        for line in process.stdout:
            if line.startswith("http://"):
                threading.Thread(target=follow, args=(line.strip(), read), daemon=True).start()
                pages = children(process.pid)
                break
            if not page and line.startswith("a new run"):
                break
        used = [0.0, 0.0]
        while process.poll() is None:
            try:
                used = [processor_seconds(process.pid), sum(map(processor_seconds, pages))]
            except (OSError, IndexError, ValueError):
                break
            time.sleep(0.05)
        assert process.wait() == 0
        assert not page or sum(read) > 1000, "nothing was read"
        lines = Path(folder, "run/timing.jsonl").read_text().splitlines()
        speeds = [json.loads(line)["images_per_second"] for line in lines]
        return speeds[2:], used


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=lambda path: str(Path(path).resolve()), default="target/release/dinolab")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    alone, beside, shares = [], [], []
    for _ in range(args.rounds):
        alone.append(statistics.median(run(args.program, False, args.epochs)[0]))
        speeds, (of_run, of_page) = run(args.program, True, args.epochs)
        beside.append(statistics.median(speeds))
        shares.append(of_page / of_run)
    medians = [statistics.median(values) for values in (alone, beside)]
    print("images/s without the page:", *(f"{value:.1f}" for value in alone))
    print("images/s with the page:   ", *(f"{value:.1f}" for value in beside))
    print(f"ratio of the medians: {medians[1] / medians[0]:.3f}")
    print(f"processor time of the page: {100 * statistics.median(shares):.2f}% of the run's")


main()
