"""What a training run tells of itself, in the order in which it happens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union


@dataclass(frozen=True)
class Started:
    """The run is open: its folder is locked and its settings are decided."""

    folder: Path
    #: Images to train on.
    images: int
    #: The images, in words.
    dataset: str
    #: Method, network, views, batch, learning rate and length, in words.
    headline: str
    #: All settings that the run follows.
    settings: dict[str, Any]
    #: Settings that were chosen for the number of images, in words.
    choices: list[str]
    #: The step that it is resumed from; None for a new run.
    resumed_from: int | None
    #: A checkpoint that is not used, because the run diverged after the one it is resumed from.
    diverged_after: str | None
    #: How long it takes, in words; None if that was not measured.
    estimate: str | None


@dataclass(frozen=True)
class Step:
    """A step is done."""

    #: Steps done, of `steps`.
    step: int
    steps: int
    #: The share of the run's work that they are, 0–1; steps with smaller crops are less of it.
    share: float
    loss: float
    #: The learning rate.
    lr: float
    images_per_second: float


@dataclass(frozen=True)
class HealthWarning:
    """A sign that the run has collapsed or diverges."""

    #: Such as "feature_collapse".
    failure: str
    #: What was seen, with numbers.
    seen: str
    meaning: str
    #: What helps, in words, the likeliest first.
    remedies: list[str]

    def __str__(self) -> str:
        return f"{self.seen} {self.meaning} What may help: {'; or '.join(self.remedies)}."


@dataclass(frozen=True)
class Epoch:
    """An epoch is done."""

    #: From 0.
    epoch: int
    #: The epoch's figures by the names of `metrics.jsonl`: loss, feature_rank, …
    health: dict[str, Any]
    #: What is wrong with them.
    warnings: list[HealthWarning]
    #: Wall-clock time.
    seconds: float
    #: The fraction of the time that steps waited for data, 0–1.
    data_wait: float


@dataclass(frozen=True)
class Evaluation:
    """The network was evaluated. Figures are in percent, and None without labels or masks."""

    #: Epochs done.
    epochs: int
    #: k-NN accuracy.
    knn: float | None
    #: The same of whitened features.
    knn_whitened: float | None
    #: Mean Jaccard index of the best head's attention and object masks.
    jaccard: float | None


@dataclass(frozen=True)
class Message:
    """Something worth knowing, in words."""

    text: str
    #: "note" or "warning".
    level: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Finished:
    """The last event: the run has ended, and its newest checkpoint is written."""

    #: "finished", "stopped as planned" (`stop_after_epochs`) or "interrupted".
    ending: str
    #: All evaluations of the run.
    evaluations: list[Evaluation]
    #: The report, an HTML page.
    report: Path
    #: Images that could not be used; they are listed in `skipped.tsv` of the run's folder.
    skipped: int


Event = Union[Started, Step, Epoch, Evaluation, Message, Finished]


def of(kind: str, values: dict[str, Any]) -> Event:
    """The event of a kind with these values."""
    if kind == "epoch":
        warnings = [HealthWarning(**warning) for warning in values.pop("warnings")]
        return Epoch(warnings=warnings, **values)
    if kind == "finished":
        evaluations = [Evaluation(**figures) for figures in values.pop("evaluations")]
        return Finished(evaluations=evaluations, **values)
    classes: dict[str, type[Event]] = {
        "started": Started,
        "step": Step,
        "evaluation": Evaluation,
        "message": Message,
    }
    return classes[kind](**values)
