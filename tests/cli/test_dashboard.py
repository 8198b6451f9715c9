"""Training as it is seen: curves, a dashboard in terminals of any size, and plain lines."""

import fcntl
import io
import math
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment

from clippy_cli import console as ours
from clippy_cli.curves import CAPACITY, Curve, plot, smooth
from clippy_cli.dashboard import Dashboard, PlainLog, training_display
from clippy_cli.filmstrip import MOMENTS, Filmstrip
from clippy_cli.run_state import KEPT_NOTICES, RunState, clean, count, duration, learning_rate, short_time
from clippy_cli.screen import Look, compose
from clippy_core import events

ESCAPES = re.compile(r"\x1b\[[\d;?]*[a-zA-Z]")
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3|4|9|10)[0-8][\d;]*m")


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def started(step: int = 0, steps: int = 1000, **more: Any) -> events.TrainingStarted:
    values: dict[str, Any] = {
        "name": "shapes-max-0",
        "folder": Path("runs/shapes-max-0"),
        "epoch_samples": 20_000,
        "batch": 512,
        "world": 4,
        "parameters": 12_934_000,
        "trainable": 11_000_000,
        "device": "cuda (NVIDIA H100)",
        "precision": "fp16",
        "config": {"model": {"name": "clippy-micro", "pool": "max"}},
    } | more
    return events.TrainingStarted(step=step, steps=steps, **values)


def step(number: int, **more: Any) -> events.StepFinished:
    values: dict[str, Any] = {
        "loss": 6 * math.exp(-number / 200) + 1,
        "lr": 4.9e-4,
        "logit_scale": 14.3 + number / 100,
        "seconds": 0.05,
        "wait": 0.005,
        "grad_norm": 1.25,
        "memory": 11_400_000_000,
        "rank_seconds": (0.040, 0.041, 0.060, 0.039),
    } | more
    return events.StepFinished(number, number * 512 / 20_000, number * 512, **values)


def picture(value: int) -> np.ndarray:
    pixels = np.full((32, 32, 3), value, np.uint8)
    pixels[:16] = (10, 200, 90)
    return pixels


def play(sink: events.Sink, clock: Clock, steps: int = 420) -> None:
    """A run that has met everything."""
    sink(started())
    for number in range(1, steps + 1):
        clock.now += 0.1
        late = number > steps // 2
        sink(step(number, skipped=3 * late, bad_samples=17 * late, loss_scale=65536.0))
        if number % 100 == 0:
            metrics = {"shapes/mIoU": number / 1000, "shapes/JS": 0.5 - number / 1000}
            sink(events.Validated(number, metrics, (picture(90), picture(140)), 3.1))
            sink(
                events.CheckpointSaved(number, Path(f"runs/shapes-max-0/checkpoints/step-{number}"), 1.2, number < 250)
            )
    sink(events.EpochFinished(1, {"read": 19_988, "damaged": 12}))
    sink(events.Noticed("a shard\nholds 犬 fewer \x1b[31msamples\x1b[0m than its index says " + "x" * 90, serious=True))
    sink(events.Noticed("nothing much"))


def terminal(width: int, height: int, **more: Any) -> Console:
    settings: dict[str, Any] = {"color_system": "truecolor", "force_terminal": True, "legacy_windows": False} | more
    return Console(file=io.StringIO(), width=width, height=height, _environ={}, **settings)


def text(lines: list[list[Segment]]) -> list[str]:
    return ["".join(segment.text for segment in line) for line in lines]


@pytest.fixture
def played() -> RunState:
    clock = Clock()
    state = RunState(clock)
    play(state, clock)
    return state


# Curves


def test_a_curve_of_any_length_stays_small_and_keeps_its_sum_and_range() -> None:
    curve = Curve()
    for number in range(1, 20_001):
        curve.add(number, math.sin(number / 1000))
    assert len(curve.buckets) <= CAPACITY
    assert sum(bucket.count for bucket in curve.buckets) == 20_000
    assert max(bucket.high for bucket in curve.buckets) == pytest.approx(1, abs=1e-6)
    total = sum(bucket.total for bucket in curve.buckets)
    assert total == pytest.approx(sum(math.sin(number / 1000) for number in range(1, 20_001)))
    columns = curve.columns(80)
    assert [column.index for column in columns] == list(range(80))


def test_steps_far_apart_fit_too() -> None:
    curve = Curve()
    for number in range(2000):
        curve.add(number * 5000, float(number))
    assert len(curve.buckets) <= CAPACITY
    curve.add(10**7 + 1, 1.0)
    assert len(curve.columns(50)) <= 50


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_value_that_is_not_finite_is_a_gap(value: float) -> None:
    curve = Curve()
    for number, item in enumerate([1.0, value, 3.0]):
        curve.add(number, item)
    assert [column.index for column in curve.columns(10)] == [0, 2]


def test_the_smoothed_curve_does_not_lag_and_calms_noise() -> None:
    line, noise = Curve(), Curve()
    for number in range(300):
        line.add(number, float(number))
        noise.add(number, float(number % 2))
    columns = line.columns(300)
    assert smooth(columns) == pytest.approx([float(column.index) for column in columns])
    assert smooth(noise.columns(300))[150] == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    "values", [[], [1.0], [2.0, 2.0], [0.0, 0.0], [1e-7, 2e-7], [1e9, -1e9], [3.0, 2.0, 1.0] * 400]
)
@pytest.mark.parametrize("braille", [True, False])
@pytest.mark.parametrize(("width", "height"), [(5, 1), (12, 2), (39, 6), (100, 14)])
def test_a_plot_has_the_size_that_was_asked_for(values: list[float], braille: bool, width: int, height: int) -> None:
    curve = Curve()
    for number, value in enumerate(values):
        curve.add(number, value)
    lines = text(plot(curve, width, height, braille=braille))
    assert [len(line) for line in lines] == [width] * height
    assert braille or "".join(lines).isascii()


def test_a_falling_curve_falls() -> None:
    curve = Curve()
    for number in range(100):
        curve.add(number, 100.0 - number)
    lines = text(plot(curve, 40, 10, braille=False))
    columns = [line.index("*") for line in lines]
    assert columns == sorted(columns)
    assert len(set(columns)) == 10


def test_a_spike_does_not_flatten_the_curve() -> None:
    curve = Curve()
    for number in range(400):
        curve.add(number, 1e6 if number == 200 else 2 - number / 400)
    lines = text(plot(curve, 60, 10))
    assert float(lines[0].split("┤")[0]) < 3


# Numbers in words


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (duration(0), "0:00"),
        (duration(59.6), "1:00"),
        (duration(3723), "1:02:03"),
        (duration(2 * 86400 + 3 * 3600 + 420), "2 d 3:07"),
        (short_time(0.0415), "41.5 ms"),
        (short_time(2.5), "2.50 s"),
        (count(999), "999"),
        (count(12_934_000), "12.9 M"),
        (learning_rate(4.9e-4), "4.90e-4"),
        (learning_rate(0.0), "0"),
        (clean("a\n b\x1b[31m"), "a b?[31m"),
    ],
)
def test_numbers_in_words(found: str, expected: str) -> None:
    assert found == expected


def test_what_is_left_follows_from_the_pace_so_far() -> None:
    clock = Clock()
    state = RunState(clock)
    state(started(step=100, steps=1000))
    assert (state.done, state.left) == (100, None)
    for number in range(101, 201):
        clock.now += 0.5
        state(step(number))
    assert state.left == pytest.approx(400)
    clock.now += 30
    assert state.left == pytest.approx(370)
    assert state.samples_per_second == pytest.approx(512 / 0.05)


def test_the_first_step_says_nothing_about_the_pace() -> None:
    state = RunState(Clock())
    state(started())
    state(step(1, seconds=60.0, wait=50.0))
    state(step(2))
    assert (state.seconds, state.wait_share) == (0.05, pytest.approx(0.1))


@pytest.mark.parametrize(
    ("name", "best"), [("shapes/mIoU", (0.3, 2)), ("text/mean rank", (0.1, 1)), ("loss", (0.1, 1))]
)
def test_the_best_of_a_metric(name: str, best: tuple[float, int]) -> None:
    state = RunState(Clock())
    for number, value in enumerate([0.1, 0.3, float("nan"), 0.2], start=1):
        state(events.Validated(number, {name: value}))
    metric = state.metrics[name]
    assert (metric.best, metric.best_step) == best
    assert metric.last == 0.2


def test_notices_are_counted_and_serious_ones_are_kept_longest() -> None:
    state = RunState(Clock())
    state(events.Noticed("disk nearly full", serious=True))
    for number in range(1000):
        state(events.Noticed(f"notice {number}"))
        state(events.Noticed("again"))
    assert len(state.notices) == KEPT_NOTICES
    assert state.notices[0].text == "disk nearly full"
    assert (state.notices[-1].text, state.notices[-1].times) == ("again", 1000)


def test_a_filmstrip_keeps_the_first_the_last_and_some_between() -> None:
    film = Filmstrip()
    for number in range(0, 10_000, 100):
        film.add(number, (picture(90),))
    film.add(10_000, ())
    steps = [moment.step for moment in film.moments]
    assert len(steps) == MOMENTS
    assert (steps[0], steps[-1]) == (0, 9900)
    assert steps == sorted(steps)


# The dashboard


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 119, 120, 160, 300])
@pytest.mark.parametrize("height", [1, 6, 12, 20, 30, 45, 90])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_frame_fits_every_terminal(played: RunState, width: int, height: int, encoding: str) -> None:
    look = Look(terminal(width, height), encoding == "utf-8", encoding == "utf-8")
    for state in (played, RunState(Clock())):
        lines = text(compose(state, width, height, look, gpu_use=97))
        assert len(lines) <= height
        assert max(cell_len(line) for line in lines) <= width
        assert not any("\x1b" in line or "\n" in line for line in lines)
        assert encoding == "utf-8" or "".join(lines).isascii()


@pytest.mark.parametrize(("width", "height"), [(40, 45), (80, 30), (80, 45), (160, 45)])
def test_a_frame_says_what_matters(played: RunState, width: int, height: int) -> None:
    lines = text(compose(played, width, height, Look(terminal(width, height), True, True), gpu_use=97))
    shown = "\n".join(lines)
    for fact in (
        "shapes-max-0", "clippy-micro", "max pooling", "NVIDIA H100", "fp16", "4 processes", "420 of 1,000",
        "epoch 10.75", "samples/s", "10,240", "4.90e-4", "10%", "11.40 GB", "97 %", "65,536", "slow rank 2", "1.48×",
        "shapes/mIoU", "0.4000", "+0.1000", "checkpoint step 400", "best: step 200", "19,988 read",
        "! a shard holds 犬",
    ):  # fmt: skip
        assert fact in shown, fact
    assert re.search(r"skipped steps +3", shown)
    assert re.search(r"bad samples +17", shown)
    assert re.search("[\u2801-\u28ff]", shown), "a curve"
    if width >= 80:
        assert "runs/shapes-max-0" in shown
        assert "512" in shown
        assert "11 M of 12.9 M parameters" in shown
        assert "logit scale 18.50" in shown
        assert "best 0.4000 at step 100" in shown
        assert "▀" in shown
        assert re.search(r"step 100 +.*step 400", shown)


def test_the_short_terminal_keeps_numbers_and_what_went_wrong(played: RunState) -> None:
    shown = "\n".join(text(compose(played, 80, 19, Look(terminal(80, 20), True, True))))
    for fact in ("420 of 1,000", "samples/s", "skipped steps", "bad samples", "shapes/mIoU", "! a shard holds"):
        assert fact in shown
    assert "▀" not in shown


def test_of_many_figures_the_first_are_shown_and_the_rest_are_counted(log: tuple[PlainLog, Clock, io.StringIO]) -> None:
    state = RunState(Clock())
    validated = events.Validated(5, {f"figure {number}": number / 100 for number in range(20)})
    state(validated)
    for width, height, shown in ((80, 30, 3), (80, 45, 6), (160, 45, 12)):
        lines = "\n".join(text(compose(state, width, height, Look(terminal(width, height), True, True))))
        assert f"{20 - shown} more in validation.jsonl" in lines
        assert f"figure {shown - 1}" in lines
        assert f"figure {shown} " not in lines
    log[0](validated)
    assert log[2].getvalue().rstrip().endswith("figure 3 0.0300 · 16 more in validation.jsonl")


@pytest.mark.parametrize(("width", "columns"), [(80, 1), (160, 2)])
def test_names_of_figures_are_whole_where_there_is_room(width: int, columns: int) -> None:
    state = RunState(Clock())
    names = [f"shapes/image to text R@{number:02}" for number in range(13)]
    for number in (1, 12_000):
        state(events.Validated(number, dict.fromkeys(names, number / 20_000)))
    lines = "\n".join(text(compose(state, width, 45, Look(terminal(width, 45), True, True))))
    for name in names[: 6 * columns]:
        assert f"{name}    0.6000  +0.6000  best 0.6000 at step 12,000" in lines.replace("+0.5999", "+0.6000")


def test_no_pictures_without_colours(played: RunState) -> None:
    for settings in ({"no_color": True}, {"color_system": None}):
        look = Look.of(terminal(160, 45, **settings))
        assert "▀" not in "\n".join(text(compose(played, 160, 45, look)))


def test_a_loss_that_is_not_a_number_is_shown() -> None:
    state = RunState(Clock())
    state(started())
    state(step(1, loss=float("nan"), seconds=0.0))
    assert "loss nan" in "\n".join(text(compose(state, 80, 30, Look(terminal(80, 30), True, True))))


def test_drawing_and_hearing_are_cheap(played: RunState) -> None:
    look = Look(terminal(160, 45), True, True)
    compose(played, 160, 45, look)
    begun = time.thread_time()
    for _ in range(5):
        compose(played, 160, 45, look)
    assert (time.thread_time() - begun) / 5 < 0.1, "a few milliseconds, but on a busy machine"
    begun = time.thread_time()
    for number in range(421, 5421):
        played(step(number))
    assert (time.thread_time() - begun) / 5000 < 0.001, "2 % of a step of 50 ms"


def test_a_dashboard_draws_and_leaves_plain_lines_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(), terminal(100, 40)
    monkeypatch.setattr(ours, "messages", lambda: screen)
    with Dashboard(screen, clock) as display:
        assert screen.file.getvalue() == "", "nothing before training begins"
        play(display, clock)
        display.refresh()
        display(events.TrainingFinished(420, 1000, 42.0, "SIGTERM arrived"))
    shown = screen.file.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    left = ESCAPES.sub("", shown[shown.rindex("\x1b[?25h") :])
    assert "shapes-max-0: stopped after 420 of 1,000 steps in 0:42: SIGTERM arrived" in left
    assert "3 steps skipped · 17 bad samples" in left
    assert "validation at step 400: shapes/mIoU 0.4000 (+0.1000, best 0.4000)" in left
    assert "checkpoint runs/shapes-max-0/checkpoints/step-400 (step 400; best: step 200)" in left
    assert "warning: a shard holds 犬 fewer ?[31msamples" in left
    assert "nothing much" not in left


def test_a_dashboard_that_hears_nothing_shows_nothing() -> None:
    screen = terminal(100, 40)
    with Dashboard(screen, Clock()):
        pass
    assert screen.file.getvalue() == ""


def test_a_dashboard_ends_with_the_error_that_ended_training(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, screen = Clock(), terminal(100, 40)
    monkeypatch.setattr(ours, "messages", lambda: screen)

    def train() -> None:
        with Dashboard(screen, clock) as display:
            play(display, clock)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train()
    shown = screen.file.getvalue()
    assert "stopped after 420 of 1,000 steps" in shown[shown.rindex("\x1b[?25h") :]
    assert not [thread for thread in threading.enumerate() if thread.name == "dashboard"]


def test_a_terminal_that_changes_its_size_is_drawn_anew() -> None:
    clock, screen = Clock(), terminal(160, 45)
    display = Dashboard(screen, clock)
    play(display.state, clock)
    with display._live:
        display.refresh()
        before = len(screen.file.getvalue())
        screen.size = (60, 20)
        display.refresh()
        after = screen.file.getvalue()[before:]
    assert "\x1b[H\x1b[2J" in after
    lines = ESCAPES.sub("", after[after.index("\x1b[2J") :]).replace("\r", "").splitlines()
    assert max(map(cell_len, lines)) <= 60


def test_a_resumed_run_has_the_whole_curve(tmp_path: Path) -> None:
    from clippy_core.training.metrics_log import MetricsLog

    with MetricsLog(tmp_path, 0) as log:
        for number in range(1, 301):
            log(step(number))
    display = Dashboard(terminal(80, 30), Clock())
    display._stop.set()
    display(started(step=200, folder=tmp_path))
    display(step(201))
    assert display.state.loss.buckets[0].index == 1
    assert sum(bucket.count for bucket in display.state.loss.buckets) == 201


# Plain lines


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> tuple[PlainLog, Clock, io.StringIO]:
    screen = Console(file=io.StringIO(), width=120, _environ={})
    monkeypatch.setattr(ours, "messages", lambda: screen)
    monkeypatch.setattr(ours.Settings, "verbosity", ours.NORMAL)
    clock = Clock()
    return PlainLog(clock), clock, screen.file  # type: ignore[return-value]


def test_plain_lines_tell_what_happens(log: tuple[PlainLog, Clock, io.StringIO]) -> None:
    sink, clock, file = log
    with sink:
        play(sink, clock)
        sink(events.TrainingFinished(420, 1000, 42.0, "a wish"))
    lines = file.getvalue().splitlines()
    assert lines[:2] == [
        "training shapes-max-0: clippy-micro · cuda (NVIDIA H100) · fp16 · 4 processes · batch 512 · "
        "11 M of 12.9 M parameters trained",
        "1,000 steps, 20,000 samples an epoch, in runs/shapes-max-0",
    ]
    assert [line.split(" ·")[0] for line in lines[2:5]] == ["step 1/1,000", "step 2/1,000", "step 3/1,000"]
    assert lines[4] == (
        "step 3/1,000 · epoch 0.08 · loss 6.9107 · lr 4.90e-4 · scale 14.33 · 10,240 samples/s · wait 10% · 11.40 GB · "
        "rank 2 at 1.48× the median · 1:40 left"
    )
    assert sum(line.startswith("step ") for line in lines) == 3 + 42 // 10 + 1
    assert "validation at step 200: shapes/mIoU 0.2000 (+0.1000, best 0.2000) · " in file.getvalue()
    assert "checkpoint runs/shapes-max-0/checkpoints/step-200 (step 200, 1.20 s, the best so far)" in lines
    assert "epoch 1 is over: 19,988 read · 12 damaged" in lines
    assert "warning: a shard holds 犬 fewer ?[31msamples?[0m than its index says " + "x" * 90 in lines
    assert lines[-1] == "shapes-max-0: stopped after 420 of 1,000 steps in 0:42: a wish"
    assert "\x1b" not in file.getvalue()


def test_a_fast_run_writes_few_lines(log: tuple[PlainLog, Clock, io.StringIO]) -> None:
    sink, clock, file = log
    sink(started(steps=10**6))
    minutes = []
    for number in range(1, 30_001):
        clock.now += 0.01
        sink(step(number))
        sink(events.Validated(number, {"shapes/mIoU": 0.1}))
        sink(events.CheckpointSaved(number, Path("runs/a"), 0.001))
        sink(events.EpochFinished(number, {}))
        sink(events.Noticed(f"notice {number}"))
        sink(events.Noticed(f"warning {number}", serious=True))
        if number % 6000 == 0:
            minutes.append(file.getvalue().count("\n"))
    assert max(np.diff([0, *minutes])) <= 5 * 10 + 6 + 3 + 2
    assert re.search(r"notice \d+ \(and 5,99\d notices since the last\)", file.getvalue())


def test_a_week_is_a_line_a_minute(log: tuple[PlainLog, Clock, io.StringIO]) -> None:
    sink, clock, file = log
    sink(started(steps=10**6))
    clock.now += 3600
    for number in range(1, 7201):
        clock.now += 1
        sink(step(number))
    assert file.getvalue().count("\nstep ") == pytest.approx(7200 / 60, abs=5)


def test_quiet_leaves_only_what_is_serious(
    log: tuple[PlainLog, Clock, io.StringIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, clock, file = log
    monkeypatch.setattr(ours.Settings, "verbosity", ours.QUIET)
    with sink:
        play(sink, clock)
    assert len(file.getvalue().splitlines()) == 1
    assert file.getvalue().startswith("warning: a shard holds")


# Fault 28: in real terminals, and without one

SCRIPT = """if True:
    import sys, time
    from pathlib import Path
    from clippy_cli import console
    from clippy_core import events

    console.prepare_streams()
    console.Settings.verbosity = int(sys.argv[2])
    from clippy_cli.dashboard import training_display

    try:
        with training_display() as display:
            display(events.TrainingStarted("a-run", Path("runs/a"), 0, 100, 64, 8, 1, 1000, 1000, "cpu", "fp32"))
            for number in range(1, int(sys.argv[1]) + 1):
                display(events.StepFinished(number, 0.1, number, 2.0 / number, 1e-3, 14.0, 0.02))
                if number == 3:
                    print("a library speaks", file=sys.stderr)
                    display(events.Noticed("K\\u00e4se \\u2013 \\u72ac", serious=True))
                time.sleep(0.02)
            display(events.TrainingFinished(number, 100, 1.0))
    except KeyboardInterrupt:
        sys.exit(130)
    print("result")
"""


PATIENCE = 120


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(
        self, command: list[str], environment: dict[str, str], columns: int, lines: int, stdout: int | None
    ) -> None:
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            env=environment,
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
        )
        os.close(slave)
        self.shown = b""

    def read_until(self, end: bytes | None) -> None:
        """Read until something appears, or until the process has gone."""
        deadline = time.monotonic() + PATIENCE
        while end is None or end not in self.shown:
            if not select.select([self.master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self.process.kill()
                pytest.fail(f"after {PATIENCE} s it still runs; the last that it showed: {self.shown[-500:]!r}")
            try:
                chunk = os.read(self.master, 65536)
            except OSError:
                break
            if not chunk:
                break
            self.shown += chunk

    def end(self) -> tuple[int, str]:
        """Exit code and everything that arrived."""
        self.read_until(None)
        os.close(self.master)
        return self.process.wait(timeout=60), self.shown.decode().replace("\r\n", "\n")


@pytest.fixture
def open_terminal(clippy_environment: dict[str, str]) -> Callable[..., Terminal]:
    def open_one(
        steps: int = 60,
        columns: int = 80,
        lines: int = 24,
        verbosity: int = 1,
        stdout: int | None = None,
        script: str = SCRIPT,
        **more: str,
    ) -> Terminal:
        environment = clippy_environment | {"TERM": "xterm-256color", "COLORTERM": "truecolor"} | more
        command = [sys.executable, "-c", script, str(steps), str(verbosity)]
        return Terminal(command, environment, columns, lines, stdout)

    return open_one


@pytest.mark.parametrize(
    ("environment", "columns", "drawn", "coloured"),
    [
        pytest.param({}, 80, True, True, id="colours"),
        pytest.param({}, 40, True, True, id="40 columns"),
        pytest.param({}, 12, False, True, id="12 columns"),
        pytest.param({"NO_COLOR": "1"}, 80, True, False, id="NO_COLOR"),
        pytest.param({"TERM": "dumb"}, 80, False, False, id="dumb"),
        pytest.param({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, 80, True, True, id="ascii"),
    ],
)
def test_every_terminal_gets_what_it_can_show(
    open_terminal: Callable[..., Terminal], environment: dict[str, str], columns: int, drawn: bool, coloured: bool
) -> None:
    code, shown = open_terminal(columns=columns, **environment).end()
    assert code == 0
    assert "Traceback" not in shown
    assert ("\x1b[?25l" in shown) is drawn
    assert ("\x1b[?25h" in shown) is drawn
    assert bool(COLOUR.search(shown)) is coloured
    assert environment.get("TERM") != "dumb" or "\x1b" not in shown
    assert "PYTHONIOENCODING" not in environment or shown.isascii()
    left = ESCAPES.sub("", shown[shown.rindex("\x1b[?25h") :] if drawn else shown)
    assert "a-run: done, 60 of 100 steps" in left
    assert left.endswith("result\n")
    assert "a library speaks\n" in shown


def test_an_interruption_gives_the_terminal_back(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal(steps=100_000)
    terminal.read_until(b"samples/s")
    terminal.process.send_signal(signal.SIGINT)
    code, shown = terminal.end()
    assert code == 130
    assert "Traceback" not in shown
    left = ESCAPES.sub("", shown[shown.rindex("\x1b[?25h") :])
    assert "a-run: stopped after" in left
    assert "no checkpoint was saved in runs/a" in left


def test_training_goes_on_without_its_terminal(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal(steps=100, stdout=subprocess.PIPE)
    terminal.read_until(b"a library speaks")
    os.close(terminal.master)
    assert terminal.process.communicate(timeout=60)[0] == b"result\n"
    assert terminal.process.returncode == 0


def test_a_forked_worker_may_speak(open_terminal: Callable[..., Terminal]) -> None:
    worker = """
                if number == 10:  # the dashboard has begun, and its lock is held by a thread, as while it draws
                    import os, signal, threading
                    held, enough = threading.Event(), threading.Event()
                    def hold():
                        with display._live._lock:
                            held.set()
                            enough.wait()
                    threading.Thread(target=hold).start()
                    held.wait()
                    child = os.fork()
                    if child == 0:
                        signal.alarm(10)
                        print("a worker speaks", file=sys.stderr, flush=True)
                        os._exit(0)
                    ended = os.waitpid(child, 0)[1]
                    enough.set()
                    assert ended == 0
                time.sleep(0.02)
    """
    script = SCRIPT.replace("                time.sleep(0.02)\n", worker.lstrip("\n"))
    assert "a worker speaks" in script
    code, shown = open_terminal(steps=20, script="import warnings; warnings.simplefilter('ignore')\n" + script).end()
    assert code == 0
    assert "a worker speaks" in shown


def test_quiet_draws_nothing(open_terminal: Callable[..., Terminal]) -> None:
    _, shown = open_terminal(steps=20, verbosity=0).end()
    assert "\x1b[?25l" not in shown
    assert ESCAPES.sub("", shown) == "a library speaks\nwarning: Käse – 犬\nresult\n"


def test_a_pipe_gets_plain_lines(clippy_environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "20", "1"], env=clippy_environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "result\n")
    assert "\x1b" not in done.stderr
    assert "\r" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("a-run: done, 20 of 100 steps")


@pytest.mark.parametrize("stderr", ["closed pipe", "/dev/full", "closed"])
def test_nobody_to_read_is_no_reason_to_stop(clippy_environment: dict[str, str], stderr: str) -> None:
    script = [sys.executable, "-c", SCRIPT.replace('print("a library speaks", file=sys.stderr)', "pass"), "5", "1"]
    settings: dict[str, Any] = {"env": clippy_environment, "stdout": subprocess.PIPE, "text": True, "timeout": 60}
    if stderr == "closed":
        done = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *script], **settings, check=False)
    elif stderr == "/dev/full":
        if not Path(stderr).exists():
            pytest.skip("needs /dev/full")
        with open(stderr, "wb") as full:
            done = subprocess.run(script, **settings, stderr=full, check=False)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(script, **settings, stderr=writer, check=False)
        os.close(writer)
    assert (done.returncode, done.stdout) == (0, "result\n")


def test_what_shows_training_is_chosen_by_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = terminal(100, 40)
    monkeypatch.setattr(ours, "messages", lambda: screen)
    monkeypatch.setattr(ours.Settings, "verbosity", ours.NORMAL)
    monkeypatch.setattr(ours, "interactive", lambda: True)
    assert isinstance(training_display(), Dashboard)
    assert isinstance(training_display(False), PlainLog)
    monkeypatch.setattr(ours.Settings, "verbosity", ours.QUIET)
    assert isinstance(training_display(), PlainLog)
    monkeypatch.setattr(ours.Settings, "verbosity", ours.NORMAL)
    monkeypatch.setattr(ours, "interactive", lambda: False)
    assert isinstance(training_display(), PlainLog)
