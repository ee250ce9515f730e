"""Walks through every part of `dinolab view` in a browser while a run trains beside it.

    pip install playwright numpy
    python benches/page/walk.py --program target/release/dinolab --out walk

Asserts what is shown, that no request leaves this machine, and that the page works by keyboard, on a
telephone and in the dark. Prints frame times while a map of 100,000 images is dragged. With --axe
(axe.min.js of axe-core), each part is checked for accessibility too. Screenshots go to --out.
"""

import argparse
import json
import re
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

PARTS = ["curves", "attention", "map", "groups", "settings"]
ROWS, DIM = 100_000, 64


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=Path, default=Path("target/release/dinolab"))
    parser.add_argument("--browser", default=shutil.which("chromium"), help="Chromium [default: the installed one, else Playwright's]")
    parser.add_argument("--axe", type=Path, help="axe.min.js")
    parser.add_argument("--out", type=Path, default=Path("walk"))
    return parser.parse_args()


def png(side=96):
    """A photograph that is in no dataset: a disc on a gradient."""
    y, x = np.mgrid[0:side, 0:side]
    disc = (x - side / 2) ** 2 + (y - side / 2) ** 2 < (side / 4) ** 2
    pixels = np.stack([np.where(disc, 220, x * 255 // side), np.where(disc, 60, 120), np.where(disc, 40, y * 255 // side)], -1)
    rows = b"".join(b"\0" + row.astype(np.uint8).tobytes() for row in pixels)
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def features(folder):
    """Saved features of 100,000 images that do not exist, in 20 classes."""
    random = np.random.default_rng(0)
    classes = np.arange(ROWS) % 20
    centres = random.normal(size=(20, DIM))
    np.save(folder / "many.npy", (centres[classes] + 0.7 * random.normal(size=(ROWS, DIM))).astype(np.float32))
    (folder / "many.labels.txt").write_text("".join(f"class {c}\n" for c in classes))
    (folder / "many.paths.txt").write_text("".join(f"{i}.jpg\n" for i in range(ROWS)))
    return folder / "many.npy"


def train(program, out, *flags, wait=True):
    command = [program, "train", "--out", out, "--shapes-images", "512", "--batch-size", "32", "--eval-every", "1",
               "--saveckp-freq", "1", "--log-every", "2", *flags]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if wait:
        assert process.wait() == 0, "training failed"
    return process


def until(page, condition, argument=None):
    """Waits for a condition. Playwright's own way evaluates text, which the page's policy refuses."""
    deadline = time.time() + 120
    while not page.evaluate(condition, argument):
        assert time.time() < deadline, condition
        time.sleep(0.05)


class View:
    """`dinolab view` and its address."""

    def __init__(self, program, *words):
        command = [str(program), "view", *map(str, words), "--port", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()
        assert re.match(r"http://127\.0\.0\.1:\d+/", self.url), self.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)


def peak_mb(pid):
    """The most memory that a process has held; `None` where there is no /proc."""
    status = Path(f"/proc/{pid}/status")
    return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) // 1024 if status.exists() else None


class Walk:
    def __init__(self, browser, axe, out):
        self.browser, self.axe, self.out = browser, axe, out
        self.violations = []

    def page(self, url, **options):
        context = self.browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: self.local(request.url))
        page.on("pageerror", lambda error: self.fail(f"script: {error}"))
        page.on("console", lambda message: message.type == "error" and self.fail(f"console: {message.text}"))
        page.goto(url)
        return page

    @staticmethod
    def fail(text):
        raise AssertionError(text)

    def local(self, url):
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.fail(f"a request left this machine: {url}")

    def shot(self, page, name):
        page.screenshot(path=self.out / f"{name}.png")

    def accessible(self, page, name):
        if not self.axe:
            return
        # Through the developer tools, since the page's policy allows no scripts of others.
        page.evaluate(self.axe)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        for violation in found["violations"]:
            nodes = [node["html"][:120] for node in violation["nodes"][:3]]
            self.violations.append(f"{name}: {violation['id']} ({violation['impact']}): {violation['help']} {nodes}")

    def show(self, page, part):
        page.click(f"#tab-{part}")
        page.wait_for_selector(f"#{part}:not([hidden])")


def curves(walk, page, training):
    page.wait_for_selector("#charts .chart svg")
    titles = page.eval_on_selector_all(".chart", "all => all.map(one => one.dataset.title)")
    for title in ["Loss", "Speed", "Waiting for data", "Learning rate", "Embeddings: effective rank"]:
        assert title in titles, (title, titles)
    notes = page.eval_on_selector_all(".chart .note", "all => all.map(one => one.textContent)")
    assert all(note.endswith(".") for note in notes), notes
    assert page.locator(".run-card").count() == 2
    until(page, "document.getElementById('runs').textContent.includes('time left')")
    words = page.locator("#runs").inner_text()
    assert "finished" in words and "training" in words and "time left" in words, words
    step = lambda: int(re.search(r"step\n([\d,]+)", page.locator(".run-card").nth(1).inner_text())[1].replace(",", ""))
    before, deadline = step(), time.time() + 60
    while step() == before and time.time() < deadline and training.poll() is None:
        time.sleep(0.5)
    assert step() > before, "the curves of the run that trains do not grow"
    page.locator("[data-title=Loss] svg[role=img]").hover()
    until(page, "document.querySelector('[data-title=Loss] .legend').textContent.includes('at step')")
    page.mouse.move(2, 2)
    page.evaluate("scrollTo(0, 0)")
    walk.shot(page, "curves")


def attention(walk, page):
    walk.show(page, "attention")
    page.wait_for_selector("#attention .seen canvas")
    assert page.locator("#attention .seen canvas").count() == 4
    drawn = lambda i: page.eval_on_selector_all("#attention .seen canvas", f"all => all[{i}].toDataURL()")
    caption = lambda i: page.locator("#attention .seen figcaption").nth(i).inner_text()
    mean, before = drawn(1), drawn(2)
    page.get_by_label("Threshold").fill("20")
    assert caption(2) == "20% of the attention" and drawn(2) != before
    page.get_by_label("Head", exact=True).select_option("0")
    assert caption(1) == "attention, head 0" and drawn(1) != mean
    page.get_by_label("Head", exact=True).select_option("mean")
    now = drawn(1)
    page.get_by_label("Checkpoint").fill("0")
    until(page, "now => document.querySelectorAll('#attention .seen canvas')[1].toDataURL() !== now", now)
    page.wait_for_selector("#attention .sheet img")
    picture = page.locator("#attention .sheet img")
    last = picture.get_attribute("src")
    page.get_by_label("Evaluation").fill("0")
    assert picture.get_attribute("src") != last and "untrained" in picture.get_attribute("alt")
    until(page, "document.querySelector('#attention .sheet img').naturalWidth > 100")
    walk.shot(page, "attention")


def the_map(walk, page):
    walk.show(page, "map")
    page.wait_for_selector("#map canvas")
    page.wait_for_selector("#map .key li")
    note = page.locator("#map .note").first.inner_text()
    assert note.startswith("512 images") or "of 512" in note, note
    canvas = page.locator("#map .plot canvas")
    until(page, "document.querySelector('#map .plot canvas').scatter.x.length > 0")
    at = page.evaluate("(() => { const s = document.querySelector('#map .plot canvas').scatter; return s.place(7).map(v => v / s.density); })()")
    canvas.click(position={"x": at[0], "y": at[1]})
    page.wait_for_selector("#map .detail .tiles .tile")
    page.wait_for_selector("#map .detail .seen canvas")
    assert page.locator("#map .detail .tile").count() == 18
    walk.shot(page, "map")
    name = page.locator("#map .detail h2").inner_text()
    page.locator("#map .detail .tile").first.click()
    until(page, "name => document.querySelector('#map .detail h2').textContent !== name", name)
    page.get_by_label("Colour by").select_option("cluster")
    until(page, "document.querySelector('#map .key').textContent.includes('cluster 1')")
    page.set_input_files("#map input[type=file]", {"name": "disc.png", "mimeType": "image/png", "buffer": png()})
    until(page, "document.querySelector('#map .detail h2')?.textContent === 'disc.png'")
    # The same by dropping it.
    page.evaluate("""bytes => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'dropped.png', {type: 'image/png'}));
        document.querySelector('#map .plot').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true}));
    }""", list(png()))
    until(page, "document.querySelector('#map .detail h2')?.textContent === 'dropped.png'")
    assert page.locator("#map .detail .tile").count() == 18
    for _ in range(4):
        page.get_by_label("Zoom in").click()
    until(page, "document.querySelector('#map .plot canvas').scatter.pictures.size > 0")
    time.sleep(2)
    walk.shot(page, "map-near")


def groups(walk, page):
    walk.show(page, "groups")
    page.wait_for_selector("#groups .group .tile")
    assert page.locator("#groups .group").count() >= 4
    page.locator("#groups .tile").first.click()
    page.wait_for_selector("#groups .detail .tile")
    walk.shot(page, "groups")
    page.locator("#groups > .controls select").select_option("outliers")
    until(page, "document.querySelector('#groups .note')?.textContent.includes('compared')")
    assert page.locator("#groups .tile").count() >= 40
    page.locator("#groups > .controls select").select_option("duplicates")
    until(page, "document.querySelector('#groups .note')?.textContent.includes('nearly the same')")


def settings(walk, page):
    walk.show(page, "settings")
    page.wait_for_selector("#settings table")
    rows = page.locator("#settings tbody th").all_inner_texts()
    assert "seed" in rows and "patch-size" not in rows, rows
    walk.shot(page, "settings")


def keyboard(page):
    page.focus("#tab-settings")
    page.keyboard.press("Home")
    assert page.evaluate("document.activeElement.id") == "tab-curves"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.id") == "tab-map"
    page.wait_for_selector("#map .plot canvas")
    page.focus("#map .plot canvas")
    left = "document.querySelector('#map .plot canvas').scatter.view.left"
    before = page.evaluate(left)
    page.keyboard.press("0")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(left) != before


def many(walk, view):
    """Drags and zooms a map of 100,000 images; returns the figures."""
    began = time.time()
    page = walk.page(view.url + "#map", viewport={"width": 1400, "height": 900})
    page.wait_for_selector("#map .key li")
    until(page, "(() => { const s = document.querySelector('#map .plot canvas')?.scatter; "
                "return s?.x.length === 100000 && s.frameTimes.length > 0; })()")
    first = round(time.time() - began, 2)
    assert page.locator("#map .note").first.inner_text().startswith("100,000 images")
    until(page, "document.querySelector('#map .plot canvas').scatter.x.length === 100000")
    time.sleep(1)
    walk.shot(page, "map-100000")
    page.evaluate("""() => {
        window.frames_ = [];
        document.querySelector('#map .plot canvas').scatter.frameTimes.length = 0;
        let last = performance.now();
        const tick = now => { frames_.push(now - last); last = now; requestAnimationFrame(tick); };
        requestAnimationFrame(tick);
    }""")
    box = page.locator("#map .plot canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(120):
        page.mouse.move(x + 150 * np.sin(i / 8), y + 100 * np.sin(i / 5))
    page.mouse.up()
    frames = page.evaluate("frames_.slice(2)")
    drawing = page.evaluate("document.querySelector('#map .plot canvas').scatter.frameTimes")
    assert len(drawing) > 20, len(drawing)
    page.locator("#map .plot canvas").click(position={"x": box["width"] / 2, "y": box["height"] / 2})
    page.wait_for_selector("#map .detail .tile")
    heap = page.evaluate("performance.memory.usedJSHeapSize") // 2**20
    page.context.close()
    part = lambda values, q: round(float(np.percentile(values, q)), 1)
    return {"first_map_s": first, "view_peak_mb": peak_mb(view.process.pid), "page_heap_mb": heap,
            "drawing_ms": [part(drawing, q) for q in (50, 95)], "frame_ms": [part(frames, q) for q in (50, 95)], "frames": len(frames)}


def main():
    args = arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        folder = Path(folder)
        train(args.program, folder / "first", "--epochs", "2")
        training = train(args.program, folder / "second", "--epochs", "500", "--seed", "1", wait=False)
        browser = playwright.chromium.launch(executable_path=args.browser)
        axe = args.axe.read_text() if args.axe else None
        walk = Walk(browser, axe, args.out)
        try:
            deadline = time.time() + 120
            while not (folder / "second/metrics.jsonl").exists() and time.time() < deadline:
                time.sleep(0.2)
            with View(args.program, folder / "first", folder / "second") as view:
                page = walk.page(view.url, viewport={"width": 1280, "height": 900})
                steps = {"curves": lambda: curves(walk, page, training), "attention": lambda: attention(walk, page),
                         "map": lambda: the_map(walk, page), "groups": lambda: groups(walk, page),
                         "settings": lambda: settings(walk, page)}
                for name, step in steps.items():
                    step()
                    walk.accessible(page, name)
                    print(f"{name}: as expected", flush=True)
                keyboard(page)
                print("keyboard: as expected")
                small = walk.page(view.url, viewport={"width": 390, "height": 844}, device_scale_factor=2, has_touch=True,
                                  is_mobile=True, color_scheme="dark")
                for part in PARTS:
                    walk.show(small, part)
                    small.wait_for_selector(f"#{part} :is(svg, canvas, .tile, table)")
                    time.sleep(1)
                    assert small.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{part} is too wide"
                    walk.shot(small, f"telephone-{part}")
                    walk.accessible(small, f"telephone, {part}")
                small.close()
                # A run that goes while it is watched.
                walk.show(page, "curves")
                training.kill()
                training.wait()
                shutil.rmtree(folder / "second")
                until(page, "document.getElementById('runs').textContent.includes('no longer there')")
                print("a run that was removed: as expected")
                page.close()
            with View(args.program, folder / "first", "--features", features(folder)) as view:
                print("100,000 images:", json.dumps(many(walk, view)))
        finally:
            training.kill()
            browser.close()
    print("accessibility:", "not checked" if axe is None else "\n".join(walk.violations) or "no violations")
    assert not walk.violations


if __name__ == "__main__":
    main()
