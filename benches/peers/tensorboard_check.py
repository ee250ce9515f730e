"""Reads the event files of a run with TensorBoard's own reader and compares them with metrics.jsonl.

    pip install tensorboard
    dinolab train --out runs/shown --tensorboard --stop-after-epochs 2
    python benches/peers/tensorboard_check.py runs/shown
"""

import json
import sys
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.projector import projector_config_pb2
from google.protobuf import text_format


def numbers(group: str, values: dict):
    for key, value in values.items():
        if type(value) is dict:
            yield from numbers(f"{group}/{key}", value)
        elif key not in ("epoch", "epochs") and type(value) in (int, float):
            yield f"{group}/{key}", value


def main(run: Path) -> None:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    events.Reload()
    tags = events.Tags()
    expected: dict[str, list[tuple[int, float]]] = {}
    evaluations = []
    for name in ("metrics.jsonl", "timing.jsonl"):
        for line in map(json.loads, (run / name).read_text().splitlines()):
            kind, step = line.pop("kind"), line.pop("step")
            if kind == "evaluation":
                evaluations.append(step)
            for name, value in numbers(kind, line):
                expected.setdefault(name, []).append((step, value))
    assert set(tags["scalars"]) == set(expected), set(tags["scalars"]) ^ set(expected)
    for tag, values in expected.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [step for step, _ in values], tag
        for (step, value), (_, wanted) in zip(found, values):
            assert abs(value - wanted) <= 1e-6 * max(1.0, abs(wanted)), (tag, step, value, wanted)
    pictures = events.Images("attention") if "attention" in tags["images"] else []
    assert [picture.step for picture in pictures] == evaluations, (pictures, evaluations)
    for picture in pictures:
        assert picture.encoded_image_string[:4] == b"\x89PNG" and picture.width > 0 and picture.height > 0
    config = text_format.Parse(
        (run / "tensorboard" / "projector_config.pbtxt").read_text(), projector_config_pb2.ProjectorConfig()
    )
    (embedding,) = config.embeddings
    rows = (run / "tensorboard" / embedding.tensor_path).read_text().splitlines()
    widths = {len([float(value) for value in row.split("\t")]) for row in rows}
    names = (run / "tensorboard" / embedding.metadata_path).read_text().splitlines()
    assert len(widths) == 1 and len(names) == len(rows) + 1
    scalars = sum(map(len, expected.values()))
    print(f"{len(expected)} tags, {scalars} scalars, {len(pictures)} pictures, {len(rows)} features of width {widths.pop()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
