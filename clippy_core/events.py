"""What happens during a long job, as small records that anything may listen to.

Jobs emit events to a sink; progress lines, dashboards and log files are sinks. The core never knows what draws them.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class BatchStarted:
    """A run over several inputs begins; ``skipped`` of ``total`` were finished by an earlier run."""

    total: int
    skipped: int


@dataclass(frozen=True)
class ItemFinished:
    """One input is done.

    Attributes:
        source: Which.
        status: ``ok`` or ``failed``.
        error: The one-line reason if it failed.
        seconds: Work on it.
        notes: One line for each thing that was decided for the user.
    """

    source: Path | str
    status: str
    error: str | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StagesObserved:
    """How full a pipeline's stages are.

    Attributes:
        limit: Which holds up the others: ``reading``, ``model`` or ``writing``.
        reading: Inputs being read.
        ready: Pictures waiting for the model.
        writing: Results being drawn and written.
    """

    limit: str
    reading: int
    ready: int
    writing: int


@dataclass(frozen=True)
class BatchFinished:
    """The run over several inputs ended; ``files`` cover the whole run."""

    done: int
    failed: int
    skipped: int
    seconds: float
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class TrainingStarted:
    """Training begins, or goes on.

    Attributes:
        name: The run's name.
        folder: The run's folder.
        step: Steps that are done already; above 0 after a resume.
        steps: Steps the run has in all.
        epoch_samples: Samples in an epoch.
        batch: Samples in one step, over all processes.
        world: How many processes train.
        parameters: Numbers in the model.
        trainable: How many of them are trained.
        device: Where it runs, such as ``"cpu"`` or ``"cuda (NVIDIA H100)"``.
        precision: What matrix products are computed in.
        config: The resolved configuration as plain data.
    """

    name: str
    folder: Path
    step: int
    steps: int
    epoch_samples: int
    batch: int
    world: int
    parameters: int
    trainable: int
    device: str
    precision: str
    config: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepFinished:
    """One optimiser step is done.

    Attributes:
        step: Its number, from 1.
        epoch: Passes over the data so far, with fraction.
        samples: Samples seen so far, over all processes.
        loss: Mean over the global batch.
        lr: Learning rate of the step, without the towers' factors.
        logit_scale: Factor on cosines during the step.
        seconds: Wall time of the step.
        wait: Of ``seconds``, spent waiting for data.
        grad_norm: Norm of the gradient before clipping; None where it was not measured.
        memory: Peak bytes of the device (CUDA) or of the process (CPU).
        skipped: Steps so far whose update was left out (fp16 overflow, or a loss that was not finite).
        loss_scale: Factor of the fp16 scaler; None in other precisions.
        bad_samples: Samples so far that could not be used and were replaced, over all processes.
        rank_seconds: Wall time of the step's own work of every process, in rank order; empty where not gathered.
    """

    step: int
    epoch: float
    samples: int
    loss: float
    lr: float
    logit_scale: float
    seconds: float
    wait: float = 0.0
    grad_norm: float | None = None
    memory: int = 0
    skipped: int = 0
    loss_scale: float | None = None
    bad_samples: int = 0
    rank_seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class Validated:
    """The model was measured at a step.

    Attributes:
        step: After which step.
        metrics: Figures by name, such as ``"shapes/mIoU"``; fractions lie in 0…1.
        pictures: Label maps of fixed pictures as RGB arrays (``uint8``, H×W×3), oldest benchmark first; may be empty.
        seconds: Wall time.
    """

    step: int
    metrics: Mapping[str, float]
    pictures: tuple[Any, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class CheckpointSaved:
    """A checkpoint is on disk, whole.

    Attributes:
        step: After which step.
        path: Its directory.
        seconds: How long writing took.
        best: Whether it is the best so far by the metric that was chosen.
    """

    step: int
    path: Path
    seconds: float
    best: bool = False


@dataclass(frozen=True)
class EpochFinished:
    """One pass over the data ended; how much of it could be used.

    Attributes:
        epoch: Its number, from 1.
        counts: How many samples by fate, such as ``{"read": 9990, "damaged": 10}``.
    """

    epoch: int
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Noticed:
    """Something the user should know, in one line; ``serious`` if it may matter to the outcome."""

    text: str
    serious: bool = False


@dataclass(frozen=True)
class TrainingFinished:
    """Training ended.

    Attributes:
        step: Steps done.
        steps: Steps the run has in all.
        seconds: Wall time of this process's part.
        reason: ``"done"``, or why it ended early, in words.
    """

    step: int
    steps: int
    seconds: float
    reason: str = "done"


TrainingEvent = (
    TrainingStarted | StepFinished | Validated | CheckpointSaved | EpochFinished | Noticed | TrainingFinished
)
BatchEvent = BatchStarted | ItemFinished | StagesObserved | BatchFinished
Event = BatchEvent | TrainingEvent
Sink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """A sink for callers that do not listen."""


def fan_out(*sinks: Sink) -> Sink:
    """One sink that passes every event to all of ``sinks``, in order."""

    def pass_on(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return pass_on
