"""Training runs: events, stopping, resuming."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, command

import dinolab
from dinolab import events


def weights_of(run: Path) -> list:
    return [(name, array.tobytes()) for name, array in sorted(dinolab.load(run).items())]


def metrics_of(run: Path) -> str:
    return (run / "metrics.jsonl").read_text()


def test_a_run_tells_of_its_steps_epochs_and_end(tmp_path, photographs, tiny):
    tiny["eval_every"] = 1
    run = dinolab.train(photographs, out=tmp_path / "run", holdout=0, log_every=1, **tiny)
    told = list(run)
    assert isinstance(told[0], events.Started)
    assert told[0].images == 18 and told[0].resumed_from is None
    assert told[0].settings["batch_size"] == 6 and told[0].settings["arch"] == "custom"
    steps = [event for event in told if isinstance(event, events.Step)]
    assert [step.step for step in steps] == [1, 2, 3, 4, 5, 6]
    assert {step.steps for step in steps} == {6}
    assert all(step.loss > 0 and step.images_per_second > 0 for step in steps)
    shares = [step.share for step in steps]
    assert shares == sorted(shares) and 0 < shares[0] and shares[-1] == 1
    epochs = [event for event in told if isinstance(event, events.Epoch)]
    assert [epoch.epoch for epoch in epochs] == [0, 1]
    losses = [step.loss for step in steps]
    assert epochs[0].health["loss"] == pytest.approx(np.mean(losses[:3]))
    evaluations = [event for event in told if isinstance(event, events.Evaluation)]
    assert [evaluation.epochs for evaluation in evaluations] == [0, 1, 2]
    assert isinstance(told[-1], events.Finished)
    assert told[-1].ending == "finished" and told[-1].report.is_file()
    assert told[-1].evaluations == evaluations
    assert run.outcome is told[-1]
    assert list(run) == []


def test_a_run_is_that_of_the_command_line(tmp_path, photographs, tiny, trained):
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in tiny.items()]
    done = command("train", photographs, "--out", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert metrics_of(tmp_path / "run") == metrics_of(trained)
    assert weights_of(tmp_path / "run") == weights_of(trained)


def test_a_loop_that_breaks_stops_the_run_at_its_step(tmp_path, photographs, tiny, trained):
    out = tmp_path / "run"
    for event in dinolab.train(photographs, out=out, **tiny):
        if isinstance(event, events.Step) and event.step == 2:
            break
    resumed = dinolab.train(photographs, out=out, **tiny)
    assert next(resumed).resumed_from == 2
    assert resumed.finish().ending == "finished"
    assert metrics_of(out) == metrics_of(trained)
    assert weights_of(out) == weights_of(trained)


def test_an_exception_leaves_a_checkpoint(tmp_path, photographs, tiny):
    out = tmp_path / "run"
    with pytest.raises(ZeroDivisionError), dinolab.train(photographs, out=out, **tiny) as run:
        for event in run:
            if isinstance(event, events.Step) and event.step == 3:
                1 / 0
    assert run.outcome.ending == "interrupted"
    assert next(dinolab.train(photographs, out=out, resume=True)).resumed_from == 3


def test_a_run_that_an_exception_holds_on_to_gives_way_to_the_next(tmp_path, photographs, tiny):
    """As in a notebook, which keeps the traceback and with it the run."""
    out = tmp_path / "run"
    held = dinolab.train(photographs, out=out, **tiny)
    for event in held:
        if isinstance(event, events.Step):
            break
    again = dinolab.train(photographs, out=out, **tiny)
    assert held.outcome.ending == "interrupted"
    assert next(again).resumed_from == 1


def test_close_may_be_called_at_any_time(tmp_path, photographs, tiny):
    run = dinolab.train(photographs, out=tmp_path / "run", **tiny)
    run.close()
    run.close()
    assert list(run) == []
    assert run.finish().ending == "interrupted"
    # Its folder is free again.
    with dinolab.train(photographs, out=tmp_path / "run", **tiny) as run:
        next(run)
    run.close()


def test_a_run_that_nobody_holds_ends(tmp_path, photographs, tiny):
    run = dinolab.train(photographs, out=tmp_path / "run", **tiny)
    next(run)
    del run
    gc.collect()
    assert (tmp_path / "run" / "lock").read_text() == ""


SCRIPT = """
import sys
import dinolab

for event in dinolab.train(sys.argv[1], out=sys.argv[2], **{settings!r}):
    print(type(event).__name__, flush=True)
    {body}
"""


def script(photographs: Path, out: Path, body: str, **settings) -> subprocess.Popen:
    code = textwrap.dedent(SCRIPT).format(settings={**TINY, **settings}, body=body)
    line = [sys.executable, "-c", code, os.fspath(photographs), os.fspath(out)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_saves_and_stops(tmp_path, photographs):
    out = tmp_path / "run"
    process = script(photographs, out, "pass", epochs=400)
    while process.stdout.readline().strip() != "Epoch":
        pass
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    done = sum('"kind":"train"' in line for line in metrics_of(out).splitlines())
    resumed = next(dinolab.train(photographs, out=out, resume=True))
    assert resumed.resumed_from >= 3
    assert resumed.resumed_from >= done


def test_the_end_of_the_interpreter_saves_and_stops(tmp_path, photographs):
    out = tmp_path / "run"
    body = "if type(event).__name__ == 'Step' and event.step == 2: held = event; raise SystemExit"
    process = script(photographs, out, body)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    assert next(dinolab.train(photographs, out=out, resume=True)).resumed_from == 2


def test_training_waits_while_an_event_is_handled(tmp_path, photographs, tiny):
    out = tmp_path / "run"
    tiny["epochs"] = 400
    with dinolab.train(photographs, out=out, **tiny) as run:
        for event in run:
            if isinstance(event, events.Step) and event.step == 2:
                # Time for a hundred steps.
                time.sleep(0.5)
                break
    assert next(dinolab.train(out=out, resume=True)).resumed_from == 2


def test_settings_change_where_that_is_asked_for(tmp_path, photographs, tiny):
    out = tmp_path / "run"
    first = dinolab.train(photographs, out=out, stop_after_epochs=1, **tiny).finish()
    assert first.ending == "stopped as planned"
    run = dinolab.train(out=out, resume=True, change_settings=True, lr=0.002, stop_after_epochs=0)
    assert next(run).settings["lr"] == 0.002
    assert run.finish().ending == "finished"


def test_without_a_folder_the_built_in_shapes_are_learned(tmp_path, tiny):
    tiny["epochs"] = 1
    run = dinolab.train(out=tmp_path / "run", shapes_images=12, shapes_size=32, **tiny)
    assert "built-in shapes" in next(run).dataset
    assert run.finish().ending == "finished"


def test_all_flags_of_the_command_line_are_settings():
    settings = dinolab.settings()
    shown = command("train", "--help").stdout
    for name, description in settings.items():
        if name not in ("images", "resume", "fresh"):
            assert f"--{name.replace('_', '-')}" in shown
            assert description
    assert {"batch_size", "teacher_temp", "out", "change_settings"} <= settings.keys()
    assert "--" not in "".join(settings.values()).replace("--out", "")


def test_values_are_numbers_texts_paths_and_sequences(tmp_path, photographs, tiny):
    tiny.update(
        global_crops_scale=(0.5, 1),
        local_crops_size=np.int64(16),
        lr=np.float32(0.25),
        global_crops_size=[32, 40],
        norm_last_layer=False,
        val=None,
    )
    with dinolab.train(str(photographs), out=str(tmp_path / "run"), **tiny) as run:
        settings = next(run).settings
    assert settings["global_crops_scale"] == [0.5, 1.0]
    assert (settings["lr"], settings["norm_last_layer"]) == (0.25, False)
    assert settings["global_crops_size"] in ("32x40", [32, 40])
