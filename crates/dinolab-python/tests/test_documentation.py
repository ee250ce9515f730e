"""The examples of docs/python.md, and the notebook."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[3] / "docs"


def examples() -> list[str]:
    text = (DOCS / "python.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path, photographs, monkeypatch, capsys):
    """In their order, since each goes on where the one before it ended."""
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    os.symlink(photographs, "photos")
    names: dict = {}
    parts = examples()
    assert len(parts) >= 8
    for part in parts:
        exec(compile(part, f"docs/python.md: {part.splitlines()[0]}", "exec"), names)
    assert names["features"].shape == (100, names["embedder"].width)
    assert len(names["losses"]) > 3
    printed = capsys.readouterr().out
    assert "interrupted\nfinished\n" in printed
    assert "holds a run with another `lr`" in printed


def test_the_notebook_runs(tmp_path):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    for needed in ("ipykernel", "matplotlib", "sklearn", "PIL"):
        pytest.importorskip(needed)
    notebook = nbformat.read(DOCS / "notebooks" / "photographs.ipynb", as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()
    text = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", [])
    )
    purity = float(re.search(r"cluster purity: (\d+)%", text)[1])
    assert purity > 40
