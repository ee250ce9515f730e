"""The four commands from nothing to a map of one's own photographs, each with its time.

    pip install playwright
    python benches/page/start.py --repository . --photos photos --time 10m --out started

Clones the repository, installs the program in a folder of its own, trains on the photographs, and opens the map
of `dinolab view` in Chromium, whose screenshot goes to --out. With --program, the first two are left out.
"""

import argparse
import shutil
import subprocess
import time
from pathlib import Path

from playwright.sync_api import sync_playwright

from walk import View, until


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", default=".")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--time", default="10m", help="for training")
    parser.add_argument("--program", type=Path, help="one that is installed already")
    parser.add_argument("--browser", default=shutil.which("chromium"))
    parser.add_argument("--out", type=Path, default=Path("started"))
    return parser.parse_args()


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    clone, run = args.out / "dinolab", args.out / "run"

    def timed(said, *command, **options):
        began = time.time()
        subprocess.run([str(word) for word in command], check=True, **options)
        print(f"{time.time() - began:8.1f} s  {said}", flush=True)

    program = args.program
    if not program:
        timed("git clone", "git", "clone", "-q", args.repository, clone)
        timed("cargo install --path crates/dinolab", "cargo", "install", "-q", "--path", "crates/dinolab",
              "--root", args.out.resolve(), cwd=clone)
        program = args.out / "bin" / "dinolab"
    timed(f"dinolab train photos --time {args.time} --out run", program, "train", args.photos, "--time", args.time,
          "--out", run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.time()
    with View(program, run) as view, sync_playwright() as playwright:
        ready = time.time() - began
        browser = playwright.chromium.launch(executable_path=args.browser)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(600_000)
        began = time.time()
        page.goto(view.url + "#map")
        until(page, "(() => { const s = document.querySelector('#map .plot canvas')?.scatter; "
                    "return s?.x.length > 0 && s.frameTimes.length > 0; })()")
        shown = time.time() - began
        points = page.evaluate("document.querySelector('#map .plot canvas').scatter.x.length")
        time.sleep(2)
        page.screenshot(path=args.out / "map.png")
        browser.close()
    print(f"{ready:8.1f} s  dinolab view run: the page is there\n{shown:8.1f} s  … and the map of {points} photographs")


if __name__ == "__main__":
    main()
