"""What is said while a run goes on: one line that redraws, or a plain line now and then."""

import io
import re

import pytest

from clippy_cli import console, progress
from clippy_cli.progress import Segmenting, duration
from clippy_core import events


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which stands still until a test moves it."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every line that was said."""
    lines: list[str] = []
    for name in ("notice", "warn"):
        monkeypatch.setattr(console, name, lines.append)
    monkeypatch.setattr(console.Settings, "verbosity", console.NORMAL)
    return lines


def _finished(number: int, status: str = "ok", notes: tuple[str, ...] = ()) -> events.ItemFinished:
    return events.ItemFinished(f"{number}.png", status, None, 0.1, notes)


def test_a_log_gets_a_line_now_and_then_and_ever_more_rarely(clock: list[float], said: list[str]) -> None:
    """A day of work is a few hundred lines, not a line a picture."""
    with Segmenting() as hears:
        hears(events.BatchStarted(86_400, 0))
        for number in range(86_400):
            clock[0] += 1
            hears(_finished(number, "failed" if number % 100 == 7 else "ok"))
    assert 30 < len(said) < 100
    assert said[0] == "12 of 86,400 · 1 failed · 1/s · 24 h 00 min left"
    assert said[-1].startswith(f"{int(said[-1].split()[0].replace(',', '')):,} of 86,400 · ")


def test_quiet_says_nothing(clock: list[float], said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console.Settings, "verbosity", console.QUIET)
    with Segmenting() as hears:
        hears(events.BatchStarted(100, 0))
        for number in range(100):
            clock[0] += 10
            hears(_finished(number))
    assert said == []


def test_speed_is_that_of_the_last_minute_and_loading_does_not_count(clock: list[float], said: list[str]) -> None:
    with Segmenting() as hears:
        hears(events.BatchStarted(1000, 400))
        clock[0] += 500  # a large model
        for number in range(300):
            clock[0] += 0.5
            hears(_finished(number))
        assert hears.state() == "2/s · 2 min left"
        for number in range(200):
            clock[0] += 4
            hears(_finished(number))
        hears(events.StagesObserved("writing", 0, 6, 4))
        assert hears.state() == "0.25/s · 7 min left · limit: writing"


def test_notes_are_passed_on_until_they_would_flood(clock: list[float], said: list[str]) -> None:
    with Segmenting() as hears:
        hears(events.BatchStarted(100, 0))
        for number in range(100):
            hears(_finished(number, notes=("animation: the first of 3 frames is used",)))
    assert said[0] == "0.png: animation: the first of 3 frames is used"
    assert len(said) == progress.MOST_NOTES + 1
    assert said[-1] == "there are more such notes; the manifest has all of them"


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (120, r"segmenting .* 6,016/20,000 · 1 failed · 2.22/s · 1 h 45 min left · limit: model *"),
        (80, r"segmenting 6,016/20,000 · 1 failed · 2.22/s · 1 h 45 min left · limit: model *"),
        (60, r"segmenting 6,016/20,000 · 1 failed · 2.22/s *"),
        (40, r"segmenting 6,016/20,000 · 1 failed *"),
        (24, r"segmenting 6,016/20,000 *"),
    ],
)
def test_on_a_terminal_it_is_one_line(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, width: int, expected: str
) -> None:
    from rich.console import Console

    screen = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(console, "interactive", lambda: True)
    monkeypatch.setattr(console, "messages", lambda: screen)
    monkeypatch.setattr(console.Settings, "verbosity", console.NORMAL)
    with Segmenting() as hears:
        hears(events.BatchStarted(20_000, 6005))
        for number in range(10):
            clock[0] += 0.5
            hears(_finished(number, "failed" if number == 3 else "ok"))
        hears(events.StagesObserved("model", 1, 6, 2))
        hears(_finished(10))
        assert hears._bar is not None
        hears._bar.refresh()
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    lines = re.findall(r"segmenting.*?(?=\r|\x1b|\n|$)", shown)
    assert re.fullmatch(expected, lines[-1])
    assert max(map(len, lines)) <= width
    assert shown.count("\n") <= 1, "it is drawn over itself"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5400, "1 h 30 min"),
        (86_400, "24 h 00 min"),
        (300_000, "3 d 11 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration(seconds) == text
