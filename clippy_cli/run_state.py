"""What is known of a training run from its events: the numbers that a dashboard or a log shows."""

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from clippy_cli.curves import Curve
from clippy_cli.filmstrip import Filmstrip
from clippy_core import events

MEMORY = 0.9  # of a moving average, from one step to the next
KEPT_NOTICES = 40
# Words in a metric's name that make less of it better.
LESS_IS_BETTER = ("loss", "rank", "error")


@dataclass
class Metric:
    """A figure of the validations: the last one, the one before, and the best with its step."""

    last: float
    before: float | None
    best: float
    best_step: int


@dataclass
class Notice:
    """A line for the user, and how often it came."""

    text: str
    serious: bool
    times: int = 0


class RunState:
    """A sink that only updates numbers, so that hearing of an event costs next to nothing.

    Args:
        clock: Seconds, for what is left and how long ago something was.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self.begun = clock()
        self.started: events.TrainingStarted | None = None
        self.step: events.StepFinished | None = None
        self.finished: events.TrainingFinished | None = None
        self.loss, self.scale = Curve(), Curve()
        self.smooth_loss: float | None = None
        self.seconds = 0.0
        self.wait_share = 0.0
        self.rank_seconds: list[float] = []
        self.validation: events.Validated | None = None
        self.metrics: dict[str, Metric] = {}
        self.film = Filmstrip()
        self.checkpoint: events.CheckpointSaved | None = None
        self.checkpoint_time = 0.0
        self.best_checkpoint: int | None = None
        self.epoch: events.EpochFinished | None = None
        self.notices: list[Notice] = []
        self._first: tuple[int, float] | None = None
        self._last_time = self.begun

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        match event:
            case events.StepFinished():
                self._hear_step(event)
            case events.TrainingStarted():
                self.started, self.begun = event, self.clock()
            case events.Validated():
                self._hear_validation(event)
            case events.CheckpointSaved():
                self.checkpoint, self.checkpoint_time = event, self.clock()
                self.best_checkpoint = event.step if event.best else self.best_checkpoint
            case events.EpochFinished():
                self.epoch = event
            case events.Noticed():
                self._notice(event.text, event.serious)
            case events.TrainingFinished():
                self.finished = event
            case _:
                pass

    def remember(self, step: int, loss: float, scale: float) -> None:
        """Put a step of an earlier part of the run into the curves."""
        self.loss.add(step, loss)
        self.scale.add(step, scale)

    @property
    def steps(self) -> int:
        """Steps the run has in all; 0 before it has begun."""
        return self.started.steps if self.started else 0

    @property
    def done(self) -> int:
        """Steps that are done."""
        if self.step is not None:
            return self.step.step
        return self.started.step if self.started else 0

    @property
    def samples_per_second(self) -> float | None:
        """Over the last steps, validations and checkpoints left out."""
        return self.started.batch / self.seconds if self.started and self.seconds > 0 else None

    @property
    def elapsed(self) -> float:
        """Seconds since this part of the run began."""
        return self.clock() - self.begun

    @property
    def left(self) -> float | None:
        """Seconds until the end at the pace so far, validations and checkpoints included."""
        if self.step is None or self._first is None or self.step.step <= self._first[0]:
            return None
        pace = (self._last_time - self._first[1]) / (self.step.step - self._first[0])
        return max(0.0, pace * (self.steps - self.step.step) - (self.clock() - self._last_time))

    def straggler(self) -> tuple[int, float] | None:
        """The slowest process and its time as a multiple of the median; None for one process."""
        if len(self.rank_seconds) < 2:
            return None
        rank = max(range(len(self.rank_seconds)), key=self.rank_seconds.__getitem__)
        median = statistics.median(self.rank_seconds)
        return (rank, self.rank_seconds[rank] / median) if median > 0 else None

    def _hear_step(self, event: events.StepFinished) -> None:
        self._last_time = self.clock()
        if self._first is None:
            self._first = (event.step, self._last_time)
        first = self.step is None
        self.step = event
        self.remember(event.step, event.loss, event.logit_scale)
        if math.isfinite(event.loss):
            self.smooth_loss = _follow(self.smooth_loss, event.loss)
        # The first step of a process compiles, allocates and waits for workers; it says nothing about the rest.
        self.seconds = event.seconds if first or self._second() else _follow(self.seconds, event.seconds)
        share = event.wait / event.seconds if event.seconds > 0 else 0.0
        self.wait_share = share if first or self._second() else _follow(self.wait_share, share)
        if len(event.rank_seconds) == len(self.rank_seconds):
            self.rank_seconds = [_follow(*pair) for pair in zip(self.rank_seconds, event.rank_seconds, strict=True)]
        else:
            self.rank_seconds = list(event.rank_seconds)

    def _second(self) -> bool:
        return self._first is not None and self.step is not None and self.step.step == self._first[0] + 1

    def _hear_validation(self, event: events.Validated) -> None:
        self.validation = event
        self.film.add(event.step, event.pictures)
        for name, value in event.metrics.items():
            known = self.metrics.get(name)
            if known is None:
                self.metrics[name] = Metric(value, None, value, event.step)
                continue
            known.before, known.last = known.last, value
            sign = -1 if any(word in name.lower() for word in LESS_IS_BETTER) else 1
            if not sign * value <= sign * known.best and math.isfinite(value):
                known.best, known.best_step = value, event.step

    def _notice(self, text: str, serious: bool) -> None:
        one_line = clean(text)
        notice = next((known for known in self.notices if known.text == one_line), Notice(one_line, serious))
        if notice.times:
            self.notices.remove(notice)
        notice.times += 1
        notice.serious |= serious
        self.notices.append(notice)
        if len(self.notices) > KEPT_NOTICES:
            self.notices.remove(next((known for known in self.notices if not known.serious), self.notices[0]))


def clean(text: str) -> str:
    """``text`` in one line, without characters that would move the cursor."""
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def epoch_line(event: events.EpochFinished) -> str:
    """How an epoch's samples fared."""
    counts = " · ".join(f"{count:,} {fate}" for fate, count in event.counts.items())
    return f"epoch {event.epoch} is over" + (f": {counts}" if counts else "")


def parameters(run: events.TrainingStarted) -> str:
    """How much of the model is trained."""
    trained, total = count(run.trainable), count(run.parameters)
    return f"{trained} parameters" if trained == total else f"{trained} of {total} parameters trained"


def duration(seconds: float) -> str:
    """A time span as on a clock: ``0:42``, ``3:07:42``, ``2 d 3:07``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours}:{minutes:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def short_time(seconds: float) -> str:
    """The time of a step."""
    return f"{seconds * 1000:.1f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"


def count(number: float) -> str:
    """A large number in three digits: ``12.9 M``."""
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f}"


def rate(number: float) -> str:
    """Samples a second."""
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def learning_rate(value: float) -> str:
    """``4.90e-4``."""
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa}e{int(exponent)}" if value else "0"


def _follow(average: float | None, value: float) -> float:
    return value if average is None else MEMORY * average + (1 - MEMORY) * value
