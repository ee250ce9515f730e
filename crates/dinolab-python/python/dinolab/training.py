"""Training runs."""

from __future__ import annotations

import atexit
import contextlib
import os
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dinolab import _dinolab
from dinolab import events as _events
from dinolab.errors import RunError
from dinolab.events import Event, Finished

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from dinolab._settings import Settings

__all__ = ["Run", "settings", "train"]

_DEFAULT_FOLDER = "runs/latest"


def train(
    folder: str | os.PathLike[str] | None = None,
    *,
    out: str | os.PathLike[str] = _DEFAULT_FOLDER,
    config: str | os.PathLike[str] | None = None,
    resume: bool = False,
    change_settings: bool = False,
    fresh: bool = False,
    **settings: Unpack[Settings],
) -> Run:
    """Train a vision transformer on unlabelled images: `dinolab train`, as an iterator over events.

    `folder` holds the images (or is a list file, tar file, …); without it, training is on the built-in
    shapes. `out` is the run's folder. A run that is there already is resumed if it has the same settings.
    `config` reads settings from a run's config.toml. `resume` resumes the run with its recorded settings,
    with `change_settings` except for those that are given. `fresh` starts over.

    All other settings are the flags of `dinolab train` in snake case, such as `epochs`, `batch_size` or
    `method`; `dinolab.settings()` describes them. Sizes and pairs may be tuples.

    The run trains while it is iterated over, and waits while an event is handled. `break`, an exception,
    Ctrl-C or `Run.close` stop it after its step with a checkpoint; the same call resumes it.

    Raises `SettingError`, `ImageError`, `WeightsError` or `RunError` at once; `DivergedError` while iterating.
    """
    given = {
        "out": out,
        "config": config,
        "resume": resume,
        "change_settings": change_settings,
        "fresh": fresh,
        **settings,
    }
    return Run(folder, given)


def settings() -> dict[str, str]:
    """The settings of `train` with their descriptions."""
    return dict(_dinolab.train_settings())


class Run(Iterator[Event]):
    """A training run. Iterate over it for its events; `with` closes it for certain."""

    def __init__(self, folder: str | os.PathLike[str] | None, settings: dict[str, Any]) -> None:
        self._native: _dinolab.Run | None = None
        #: The event of the end, once the run has ended.
        self.outcome: Finished | None = None
        out = os.path.realpath(settings["out"])
        # A run that an interrupted cell of a notebook has left.
        earlier = _open_runs.get(out)
        if earlier is not None:
            earlier.close()
        self._native = _dinolab.Run(folder, settings)
        _open_runs[out] = self

    def __iter__(self) -> Run:
        return self

    def __next__(self) -> Event:
        """The next event. Trains until there is one."""
        if self._native is None:
            raise StopIteration
        try:
            told = self._native.next_event()
        except BaseException:
            # The run has ended: saved if it was interrupted, at its last checkpoint if it failed.
            self._native = None
            raise
        return self._heard(told)

    def _heard(self, told: tuple[str, dict[str, Any]] | None) -> Event:
        if told is None:
            self._native = None
            raise StopIteration
        event = _events.of(*told)
        if isinstance(event, Finished):
            self.outcome = event
            self._native = None
        return event

    def finish(self) -> Finished:
        """Trains to the end, and returns its event."""
        for _ in self:
            pass
        if self.outcome is None:
            raise RunError("the run was interrupted or failed; `train` with the same arguments resumes it")
        return self.outcome

    def close(self) -> None:
        """Stops the run after its step and waits until its checkpoint is written. Does nothing once it has ended."""
        native, self._native = self._native, None
        if native is None:
            return
        told = native.close()
        if told is not None:
            self._heard(told)

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


_open_runs: weakref.WeakValueDictionary[str, Run] = weakref.WeakValueDictionary()


@atexit.register
def _close_all() -> None:
    # Each of them, whatever becomes of the others.
    with contextlib.ExitStack() as stack:
        for run in list(_open_runs.values()):
            stack.callback(run.close)
