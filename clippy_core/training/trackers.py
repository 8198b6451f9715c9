"""Training in TensorBoard and in Weights & Biases.

Both are told of every step's numbers, of validations and of their label maps. They are optional parts, and guests: one
that fails says so once and is heard of no more, while training goes on.
"""

import importlib
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from clippy_core.errors import DeviceError
from clippy_core.events import Event, Noticed, Sink, StepFinished, TrainingFinished, TrainingStarted, Validated
from clippy_core.files import write_bytes

WANDB_ID = "wandb-id"
PROJECT = "clippy"


class Tracker(Protocol):
    """An open run in a tracking tool; any method may raise whatever the tool raises."""

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        ...

    def show(self, step: int, pictures: Mapping[str, Any]) -> None:
        """Take RGB arrays (``uint8``, H×W×3) of a step."""
        ...

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files in the run's folder, under ``tensorboard``.

    Steps after the one that a run is resumed from are hidden from what an earlier process wrote.
    """

    def __init__(self, run: TrainingStarted, tell: Sink) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / "tensorboard"
        self._writer = SummaryWriter(str(folder), purge_step=run.step + 1 if run.step else None)

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def show(self, step: int, pictures: Mapping[str, Any]) -> None:
        """Take RGB arrays (``uint8``, H×W×3) of a step."""
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, with its files in the run's folder, under ``wandb``.

    Its own environment variables decide where it goes (``WANDB_MODE``, ``WANDB_PROJECT``, …). Without an account the
    run is kept offline; nobody is asked for one. A resumed run goes on under the same id.
    """

    def __init__(self, run: TrainingStarted, tell: Sink) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self._wandb = wandb
        mode: Any = None
        # Told so here, so that it is not found out by a question on the terminal of a machine nobody sits at.
        if "WANDB_MODE" not in os.environ and not wandb.login(prompt=False, verify=False):
            mode = "offline"
            tell(Noticed(f"wandb: nobody is logged in; the run is kept offline in {run.folder / 'wandb'}"))
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=run.name,
            id=_id(run.folder),
            resume="allow",
            dir=str(run.folder),
            config=dict(run.config),
            mode=mode,
            settings=wandb.Settings(silent=True, console="off"),
        )

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        """Take numbers of a step."""
        self._run.log(dict(numbers), step=step)

    def show(self, step: int, pictures: Mapping[str, Any]) -> None:
        """Take RGB arrays (``uint8``, H×W×3) of a step."""
        self._run.log({name: self._wandb.Image(picture) for name, picture in pictures.items()}, step=step)

    def close(self, *, failed: bool) -> None:
        """Write what is left."""
        self._run.finish(exit_code=int(failed))


# By the name in `--report`: what must be importable, and what opens a run.
TRACKERS: dict[str, tuple[str, Callable[[TrainingStarted, Sink], Tracker]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "wandb": ("wandb", WeightsAndBiases),
}


class Guest:
    """A sink that passes events to a tracker until the tracker fails.

    Args:
        name: What the user calls the tracker.
        open_run: Makes the tracker when training starts.
        tell: Hears of the failure, as a serious :class:`Noticed`.
    """

    def __init__(self, name: str, open_run: Callable[[TrainingStarted, Sink], Tracker], tell: Sink) -> None:
        self._name, self._open, self._tell = name, open_run, tell
        self._tracker: Tracker | None = None
        self._batch = 0

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        # Trackers raise what their network, disk and server libraries raise, and training must survive all of it.
        try:
            self._pass_on(event)
        except Exception as error:
            self._tracker = None
            reason = " ".join(str(error).split()) or type(error).__name__
            self._tell(Noticed(f"{self._name} failed and is off from here; training goes on ({reason})", serious=True))

    def close(self, *, failed: bool = False) -> None:
        """Finish the tracker's run, unless training has."""
        if self._tracker is not None:
            reason = "interrupted" if failed else "done"
            self(TrainingFinished(0, 0, 0.0, reason))

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, TrainingStarted):
            self._batch = event.batch
            self._tracker = self._open(event, self._tell)
        elif self._tracker is None:
            return
        elif isinstance(event, StepFinished):
            self._tracker.write(event.step, step_numbers(event, self._batch))
        elif isinstance(event, Validated):
            numbers = {f"validation/{name}": float(value) for name, value in event.metrics.items()}
            self._tracker.write(event.step, numbers)
            pictures = {f"label maps/{index}": picture for index, picture in enumerate(event.pictures)}
            if pictures:
                self._tracker.show(event.step, pictures)
        elif isinstance(event, TrainingFinished):
            tracker, self._tracker = self._tracker, None
            tracker.close(failed=event.reason != "done")


class Trackers:
    """A sink and context manager over any number of trackers; leaving it finishes their runs."""

    def __init__(self, guests: Iterable[Guest]) -> None:
        self._guests = tuple(guests)

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        for guest in self._guests:
            guest(event)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for guest in self._guests:
            guest.close(failed=error is not None)


def trackers(names: Iterable[str], tell: Sink) -> Trackers:
    """The trackers among ``names``; names that are none, such as ``rich``, are passed over.

    Nothing is opened before training starts.

    Args:
        names: As in ``--report``.
        tell: Hears, as :class:`Noticed`, of a tracker that fails or stays offline.

    Raises:
        DeviceError: A package is not installed.
    """
    guests = []
    for name in dict.fromkeys(names):
        if name in TRACKERS:
            package, open_run = TRACKERS[name]
            _require(name, package)
            guests.append(Guest(name, open_run, tell))
    return Trackers(guests)


def step_numbers(event: StepFinished, batch: int) -> dict[str, float]:
    """What is tracked of a step, by name; ``batch`` samples were in it."""
    numbers = {
        "train/loss": event.loss,
        "train/lr": event.lr,
        "train/logit_scale": event.logit_scale,
        "train/epoch": event.epoch,
        "train/samples": event.samples,
        "train/grad_norm": event.grad_norm,
        "train/loss_scale": event.loss_scale,
        "train/skipped": event.skipped,
        "train/bad_samples": event.bad_samples,
        "speed/seconds": event.seconds,
        "speed/samples_per_second": batch / event.seconds if event.seconds > 0 else None,
        "speed/wait": event.wait,
        "speed/memory": event.memory,
        "speed/slowest_rank": max(event.rank_seconds, default=None),
    }
    return {name: value for name, value in numbers.items() if value is not None}


def _require(name: str, package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise DeviceError(
            f'--report {name} needs the package {package} ({error}): pip install "clippy-vlm[track]"'
        ) from error


def _id(folder: Path) -> str:
    """The id of the run, the same after a resume."""
    path = folder / WANDB_ID
    if not path.exists():
        write_bytes(path, secrets.token_hex(6).encode())
    return path.read_text().strip()
