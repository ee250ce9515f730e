"""The command line that the package brings along."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import urllib.request
from pathlib import Path

import pytest
from conftest import TINY, command

import dinolab


def test_the_module_is_the_program(tmp_path):
    done = command("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("dinolab ")
    assert "Usage:" in command("--help").stdout
    assert command("train", "--batch-size", "none").returncode == 2
    failed = command("embed", "--weights", tmp_path / "nothing", tmp_path, "--out", tmp_path / "a.npy")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: cannot read --weights")


def test_the_script_is_installed():
    script = Path(sysconfig.get_path("scripts")) / ("dinolab.exe" if os.name == "nt" else "dinolab")
    if not script.exists():
        pytest.skip("the package is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, text=True)
    assert done.stdout == command("--version").stdout


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_stop(tmp_path, photographs, number, code):
    out = tmp_path / "run"
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in {**TINY, "epochs": 4000}.items()]
    line = [sys.executable, "-m", "dinolab", "train", photographs, "--out", out, *flags]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        while not (out / "checkpoints" / "latest").exists():
            assert process.poll() is None, process.stderr.read()
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code, errors
    assert "Traceback" not in errors
    with dinolab.train(out=out, resume=True) as run:
        assert next(run).resumed_from >= 3


def test_a_reader_that_leaves_is_no_error(photographs):
    if shutil.which("head") is None:
        pytest.skip("no head")
    line = f'"{sys.executable}" -m dinolab data inspect "{photographs}" | head -n 1'
    done = subprocess.run(line, shell=True, capture_output=True, text=True)
    assert done.stderr == ""


def test_a_page_beside_a_run_is_of_the_same_package(tmp_path):
    run = subprocess.Popen(
        [sys.executable, "-m", "dinolab", "train", "--view", "--out", tmp_path / "run", "--arch", "custom",
         *"--width 32 --depth 2 --heads 2 --patch-size 8 --global-crops-size 32 --local-crops-size 16".split(),
         *"--shapes-images 32 --batch-size 8 --epochs 100000 --eval-every 0".split()],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=tmp_path,
    )  # fmt: skip
    try:
        address = next(line.strip() for line in run.stdout if line.startswith("http://"))
        with urllib.request.urlopen(address) as answer:
            assert b"dinolab" in answer.read()
    finally:
        run.kill()
        run.wait()
