"""Makes large JPEGs out of small photographs, side by side at their own size.

    python mosaic.py voc2012/JPEGImages large --size 4000x3000 --count 8

Nothing is enlarged, so every pixel of a mosaic is as sharp as those of its photographs: sharper than
a camera's of 12 million pixels, with more data in its file.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from PIL import Image


def mosaic(photographs: list[Path], width: int, height: int) -> Image.Image:
    """Rows of photographs from left to right, each row as high as its lowest one."""
    canvas, y = Image.new("RGB", (width, height)), 0
    while y < height:
        x, row = 0, []
        while x < width:
            photograph = Image.open(random.choice(photographs)).convert("RGB")
            row.append((x, photograph))
            x += photograph.width
        for x, photograph in row:
            canvas.paste(photograph, (x, y))
        y += min(photograph.height for _, photograph in row)
    return canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path, help="a folder of photographs, searched at any depth")
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", default="4000x3000", help="WIDTHxHEIGHT")
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--quality", type=int, default=92)
    parser.add_argument("--subsampling", default="4:2:0", choices=["4:4:4", "4:2:2", "4:2:0"])
    parser.add_argument("--progressive", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    width, height = map(int, arguments.size.split("x"))
    photographs = sorted(arguments.photographs.rglob("*.jpg"))
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number in range(arguments.count):
        mosaic(photographs, width, height).save(
            arguments.out / f"{number:03}.jpg",
            quality=arguments.quality,
            subsampling=arguments.subsampling,
            progressive=arguments.progressive,
        )


if __name__ == "__main__":
    main()
