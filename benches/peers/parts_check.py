"""Reads a folder that `dinolab embed --format parquet` wrote with pyarrow, pandas, Polars and DuckDB, and compares it
with the file of `dinolab embed` on the same images: features, or patch tokens (`--patch-tokens`). Those of whole images
(`--whole`) are in a `.safetensors` file.

    pip install pyarrow pandas polars duckdb safetensors
    python benches/peers/parts_check.py FOLDER features.npy
    python benches/peers/parts_check.py FOLDER tokens.safetensors
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import numpy as np
import pandas
import polars
import pyarrow.parquet
from safetensors.numpy import load_file


def whole_images(folder: Path, saved: Path) -> None:
    """Compares grids of different sizes."""
    expected = load_file(saved)
    files = str(folder / "*.parquet")
    columns = ["path", "patch_tokens", "rows", "columns"]
    table = pyarrow.parquet.read_table(folder, columns=columns)
    frame = pandas.read_parquet(folder)[columns]
    lazy = polars.read_parquet(files).select(columns)
    found = {
        "pyarrow": list(zip(*(table[name].to_pylist() for name in columns))),
        "pandas": list(frame.itertuples(index=False, name=None)),
        "Polars": lazy.rows(),
        "DuckDB": duckdb.sql(f"select {', '.join(columns)} from '{files}'").fetchall(),
    }
    for reader, rows in found.items():
        assert [row[0] for row in rows] == sorted(expected), reader
        for path, tokens, height, width in rows:
            grid = np.asarray(tokens, dtype=np.float32).reshape(height, width, -1)
            assert np.array_equal(grid, expected[path]), (reader, path)
        shapes = {row[2:] for row in rows}
        print(f"{reader}: {len(rows)} grids of {len(shapes)} shapes, equal")


def main() -> None:
    """Reads, compares, prints a line for each reader."""
    folder, saved = Path(sys.argv[1]), Path(sys.argv[2])
    if saved.suffix == ".safetensors":
        return whole_images(folder, saved)
    expected = np.load(saved)
    paths = saved.with_suffix(".paths.txt").read_text().splitlines()
    files = str(folder / "*.parquet")

    table = pyarrow.parquet.read_table(folder)
    column = "feature" if "feature" in table.schema.names else "patch_tokens"
    kind = table.schema.field(column).type
    if column == "patch_tokens":
        footer = pyarrow.parquet.read_metadata(folder / "part-000000.parquet").metadata
        shape = tuple(json.loads(footer[b"dinolab.patch_tokens"]))
        assert shape == expected.shape[1:], (shape, expected.shape)
        expected = expected.reshape(len(expected), -1)
    frame = pandas.read_parquet(folder)
    lazy = polars.read_parquet(files)
    rows = duckdb.sql(f"select path, {column} from '{files}'").fetchall()
    found = {
        "pyarrow": (table["path"].to_pylist(), np.stack(table[column].to_numpy())),
        "pandas": (list(frame["path"]), np.stack(frame[column])),
        "Polars": (lazy["path"].to_list(), lazy[column].to_numpy()),
        "DuckDB": ([row[0] for row in rows], np.array([row[1] for row in rows], dtype=np.float32)),
    }
    tolerance = 0.0 if kind.value_type == pyarrow.float32() else 1e-3 * float(np.abs(expected).max())
    for reader, (names, features) in found.items():
        assert names == paths, reader
        difference = float(np.abs(features.astype(np.float32) - expected).max())
        assert difference <= tolerance, (reader, difference)
        print(f"{reader}: {len(names)} rows of {kind}, largest difference {difference}")


if __name__ == "__main__":
    main()
