"""Training in plain lines, for files, pipes and terminals that cannot redraw: few enough to be read."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from clippy_cli import console
from clippy_cli.run_state import RunState, clean, duration, epoch_line, learning_rate, parameters, rate, short_time
from clippy_core import events

FIRST_STEPS = 3
SPACING = (10.0, 60.0)  # seconds between lines about steps: at first, and after an hour
FIGURES = 4  # of a validation, in its line
BURST = 10  # lines of one other kind in a minute


class PlainLog:
    """A sink that says how training goes: the first steps, then a line every 10 to 60 seconds, and what happens.

    Lines of any one kind are bounded in number a minute, whatever the pace of the run; left-out lines are counted.
    With ``--quiet`` only serious notices are said.

    Args:
        clock: Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._state = RunState(clock)
        self._clock = clock
        self._steps = 0
        self._next = 0.0
        self._said_step = -1
        self._kinds: dict[str, _Allowance] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._state.finished is None and self._state.started is not None:
            self._end()

    def __call__(self, event: events.Event) -> None:
        """Hear of an event."""
        self._state(event)
        match event:
            case events.StepFinished():
                self._hear_step()
            case events.TrainingStarted():
                for line in starting(event):
                    self._say(line)
            case events.Validated():
                self._say_bounded("validations", validation_line(self._state))
            case events.CheckpointSaved():
                best = ", the best so far" if event.best else ""
                self._say_bounded(
                    "checkpoints", f"checkpoint {event.path} (step {event.step:,}, {short_time(event.seconds)}{best})"
                )
            case events.EpochFinished():
                self._say_bounded("epochs", epoch_line(event))
            case events.Noticed():
                kind = "warnings" if event.serious else "notices"
                self._say_bounded(kind, clean(event.text), serious=event.serious)
            case events.TrainingFinished():
                self._end()
            case _:
                pass

    def _hear_step(self) -> None:
        self._steps += 1
        now = self._clock()
        if self._steps <= FIRST_STEPS or now >= self._next:
            self._say_step()
            self._next = now + min(max(self._state.elapsed / 60, SPACING[0]), SPACING[1])

    def _say_step(self) -> None:
        self._said_step = self._state.done
        self._say(step_line(self._state))

    def _end(self) -> None:
        if self._state.done != self._said_step and self._state.step is not None:
            self._say_step()
        self._say(ending(self._state)[0])

    def _say_bounded(self, kind: str, text: str, *, serious: bool = False) -> None:
        allowance = self._kinds.setdefault(kind, _Allowance())
        left_out = allowance.ask(self._clock())
        if left_out is not None:
            self._say(text + (f" (and {left_out:,} {kind} since the last)" if left_out else ""), serious=serious)

    def _say(self, text: str, *, serious: bool = False) -> None:
        say(text, serious=serious)


class _Allowance:
    """At most 10 lines a minute."""

    def __init__(self) -> None:
        self._since = float("-inf")
        self._said = self._left_out = 0

    def ask(self, now: float) -> int | None:
        """None if there are too many; else how many were left out before this one."""
        if now - self._since >= 60:
            self._since, self._said = now, 0
        if self._said >= BURST:
            self._left_out += 1
            return None
        self._said += 1
        left_out, self._left_out = self._left_out, 0
        return left_out


def say(text: str, *, serious: bool = False) -> None:
    """A line on stderr; a reader, terminal or disk that has gone is no reason to stop training."""
    try:
        console.warn(text) if serious else console.notice(text)
    except OSError:
        console.give_up(sys.stderr)


def starting(run: events.TrainingStarted) -> list[str]:
    """What is trained, where, and where it goes."""
    model = run.config.get("model", {}).get("name", "")
    facts = [model, run.device, run.precision, "1 process" if run.world == 1 else f"{run.world} processes"]
    facts += [f"batch {run.batch:,}", parameters(run)]
    going = f"going on after step {run.step:,} of {run.steps:,}" if run.step else f"{run.steps:,} steps"
    return [
        clean(f"training {run.name}: {' · '.join(filter(None, facts))}"),
        clean(f"{going}, {run.epoch_samples:,} samples an epoch, in {run.folder}"),
    ]


def step_line(state: RunState) -> str:
    """Where the run is, in one line."""
    step = state.step
    assert step is not None
    facts = [f"step {step.step:,}/{state.steps:,}", f"epoch {step.epoch:.2f}", f"loss {step.loss:.4f}"]
    facts += [f"lr {learning_rate(step.lr)}", f"scale {step.logit_scale:.2f}"]
    facts += [f"{rate(state.samples_per_second or 0.0)} samples/s", f"wait {state.wait_share:.0%}"]
    if step.memory:
        facts.append(f"{step.memory / 1e9:.2f} GB")
    straggler = state.straggler()
    if straggler is not None:
        facts.append(f"rank {straggler[0]} at {straggler[1]:.2f}× the median")
    facts += _troubles(state)
    if state.left is not None:
        facts.append(f"{duration(state.left)} left")
    return " · ".join(facts)


def validation_line(state: RunState) -> str:
    """The last validation with its changes."""
    if state.validation is None:
        return ""
    figures = []
    for name in list(state.validation.metrics)[:FIGURES]:
        metric = state.metrics[name]
        change = "" if metric.before is None else f" ({metric.last - metric.before:+.4f}, best {metric.best:.4f})"
        figures.append(f"{name} {metric.last:.4f}{change}")
    if len(state.validation.metrics) > FIGURES:
        figures.append(f"{len(state.validation.metrics) - FIGURES} more in validation.jsonl")
    return clean(f"validation at step {state.validation.step:,}: {' · '.join(figures)}")


def ending(state: RunState) -> list[str]:
    """How training ended: what stays in the terminal."""
    done = f"{state.done:,} of {state.steps:,} steps"
    end = state.finished
    name = state.started.name if state.started else "training"
    spent = duration(end.seconds if end else state.elapsed)
    if end is not None and end.reason == "done":
        lines = [f"{name}: done, {done} in {spent}"]
    else:
        lines = [f"{name}: stopped after {done} in {spent}" + (f": {end.reason}" if end else "")]
    if state.step is not None:
        lately = "" if state.smooth_loss is None else f" (lately {state.smooth_loss:.4f})"
        facts = [f"loss {state.step.loss:.4f}{lately}", f"logit scale {state.step.logit_scale:.2f}"]
        facts.append(f"{rate(state.samples_per_second or 0.0)} samples/s")
        lines.append(" · ".join([*facts, *_troubles(state)]))
    if state.validation is not None:
        lines.append(validation_line(state))
    if state.checkpoint is not None:
        best = "" if state.best_checkpoint is None else f"; best: step {state.best_checkpoint:,}"
        lines.append(f"checkpoint {state.checkpoint.path} (step {state.checkpoint.step:,}{best})")
    elif state.started is not None:
        lines.append(f"no checkpoint was saved in {state.started.folder}")
    return [clean(line) for line in lines]


def _troubles(state: RunState) -> list[str]:
    step = state.step
    if step is None:
        return []
    skipped = [f"{step.skipped:,} steps skipped"] if step.skipped else []
    return skipped + ([f"{step.bad_samples:,} bad samples"] if step.bad_samples else [])
