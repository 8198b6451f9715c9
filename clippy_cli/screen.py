"""What the dashboard of a training run shows, line by line, for a terminal of any size."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment
from rich.style import Style

from clippy_cli import preview
from clippy_cli.console import SIGNS
from clippy_cli.curves import Curve, Line, plot
from clippy_cli.run_state import (
    Metric,
    Notice,
    RunState,
    duration,
    epoch_line,
    learning_rate,
    parameters,
    rate,
    short_time,
)

WIDE, NARROW = 120, 60  # columns
NUMBERS_WIDTH, FIGURE_WIDTH = 34, 19  # columns for the numbers beside curves; for a figure and its change
AIRY, TALL = 26, 36  # lines from which numbers may stand beside curves, and from which more figures are shown
METRICS, NOTICES = (3, 6), (2, 5)
CURVE_LINES = (4, 14)
FILM_LINES = (6, 21)
SLOW_RANK, LONG_WAIT = 1.2, 0.2  # from which on a straggler, or a share of waiting, is marked
BARS = "▁▂▃▄▅▆▇█"
MOST_BARS = 32

PLAIN, BOLD, DIM = Style(), Style(bold=True), Style(dim=True)
GOOD, NOTABLE, BAD = Style(color="green"), Style(color="yellow"), Style(color="red", bold=True)
NAME, BAR = Style(color="bright_cyan", bold=True), Style(color="bright_cyan")


@dataclass(frozen=True)
class Look:
    """What a terminal can show.

    Attributes:
        console: Draws the pictures.
        unicode: Whether its locale has more than ASCII.
        pictures: Whether it has colours to make pictures of.
    """

    console: Console
    unicode: bool
    pictures: bool

    @classmethod
    def of(cls, console: Console) -> "Look":
        """What this console's terminal can show."""
        unicode = console.encoding.lower().startswith("utf")
        return cls(console, unicode, unicode and preview.can_show(console))

    def text(self, text: str, style: Style = PLAIN) -> Segment:
        """Text that takes the room it seems to take."""
        if not self.unicode:
            text = text.translate(SIGNS).encode("ascii", "backslashreplace").decode()
        return Segment(text, style)


def compose(state: RunState, width: int, height: int, look: Look, gpu_use: int | None = None) -> list[Line]:
    """At most ``height`` lines of at most ``width`` cells.

    What matters most is kept longest: where the run is, its numbers, what went wrong; then validation, curves and
    pictures share what is left.

    Args:
        state: What to show.
        width: Columns of the terminal.
        height: Lines that may be used.
        look: What the terminal can show.
        gpu_use: Per cent, where known.
    """
    top = [*_header(state, width, look), *_progress(state, width, look)]
    entries = _numbers(state, look, gpu_use, with_scale=width < NARROW)
    aside = width >= WIDE and height >= AIRY
    numbers = [] if aside else _grid(entries, width, look)
    checks = _validation(state, width, look, most=METRICS[0] if height < TALL else METRICS[1])
    fixed = [block for block in (numbers, checks, _ending(state, width, look, notices=NOTICES[0])) if block]
    free = height - len(top) - sum(map(len, fixed))

    film_lines = 0
    if look.pictures and state.film.moments and free >= CURVE_LINES[0] + FILM_LINES[0]:
        film_lines = FILM_LINES[0] + max(0, min(FILM_LINES[1], free // 2) - FILM_LINES[0])
    sections = len(fixed) + (free > 0) + (film_lines > 0)
    airy = free - film_lines - sections >= CURVE_LINES[0] + 1
    free -= film_lines + sections * airy
    middle = _middle(state, entries if aside else [], width, min(free, CURVE_LINES[1]), look)
    film = state.film.draw(look.console, width, film_lines)
    spare = free - len(middle) + film_lines - len(film)
    ending = _ending(state, width, look, notices=NOTICES[0] + min(max(spare, 0), NOTICES[1] - NOTICES[0]))
    shown: list[Line] = []
    for section in (top, middle, numbers, checks, film, ending):
        shown += [[]] * (airy and bool(section) and bool(shown))
        shown += section
    return [Segment.adjust_line_length(line, width, pad=False) for line in shown[:height]]


def _header(state: RunState, width: int, look: Look) -> list[Line]:
    run = state.started
    if run is None:
        return [[look.text("clippy train", NAME), look.text(" · starting", DIM)]]
    model = run.config.get("model", {}).get("name")
    pool = run.config.get("model", {}).get("pool")
    facts = [str(model)] if model else []
    facts += [f"{pool} pooling"] if pool else []
    facts += [run.device, run.precision, "1 process" if run.world == 1 else f"{run.world} processes"]
    facts += [f"batch {run.batch:,}", parameters(run)]
    first = [look.text(run.name, NAME)]
    folder = look.text(f"in {run.folder}", DIM)
    room = width - cell_len(first[0].text) - cell_len(folder.text)
    if room >= 2:
        first += [Segment(" " * room), folder]
    return [first, *_wrap(facts, width, look, DIM, most=2)]


def _progress(state: RunState, width: int, look: Look) -> list[Line]:
    facts = [f"step {state.done:,} of {state.steps:,}"]
    if state.step is not None:
        facts.append(f"epoch {state.step.epoch:.2f}")
    facts.append(f"{duration(state.elapsed)} gone")
    if state.left is not None:
        facts.append(f"{duration(state.left)} left")
    share = state.done / state.steps if state.steps else 0.0
    words = f" {share:4.0%}  " + " · ".join(facts)
    if len(words) + 12 <= width:
        return [[*_bar(share, width - len(words), look), look.text(words)]]
    bar = [*_bar(share, width - 5, look), look.text(f" {share:4.0%}")]
    return [bar, *_wrap(facts, width, look, PLAIN, most=2)]


def _bar(share: float, width: int, look: Look) -> Line:
    done = int(share * width)
    full, rest = ("━", "─") if look.unicode else ("=", "-")
    return [Segment(full * done, BAR), Segment(rest * (width - done), DIM)]


def _numbers(state: RunState, look: Look, gpu_use: int | None, *, with_scale: bool) -> list[tuple[str, str, Style]]:
    step = state.step
    if step is None:
        return [("waiting for the first step", "", DIM)]
    entries = [("skipped steps", f"{step.skipped:,}", BAD)] if step.skipped else []
    entries += [("bad samples", f"{step.bad_samples:,}", BAD)] if step.bad_samples else []
    entries += [
        ("samples/s", rate(state.samples_per_second or 0.0), BOLD),
        ("step time", short_time(state.seconds), PLAIN),
        ("lr", learning_rate(step.lr), PLAIN),
        ("data wait", f"{state.wait_share:.0%}", NOTABLE if state.wait_share > LONG_WAIT else PLAIN),
    ]
    if with_scale:
        entries.append(("logit scale", f"{step.logit_scale:.2f}", PLAIN))
    if step.memory:
        entries.append(("memory", f"{step.memory / 1e9:.2f} GB", PLAIN))
    if gpu_use is not None:
        entries.append(("GPU use", f"{gpu_use} %", PLAIN))
    if step.grad_norm is not None:
        entries.append(("grad norm", f"{step.grad_norm:.3g}", PLAIN))
    if step.loss_scale is not None:
        entries.append(("fp16 scale", f"{step.loss_scale:,.0f}", PLAIN))
    straggler = state.straggler()
    if straggler is not None:
        rank, factor = straggler
        entries.append((f"slow rank {rank}", f"{factor:.2f}×", NOTABLE if factor > SLOW_RANK else PLAIN))
        if look.unicode and len(state.rank_seconds) <= MOST_BARS:
            entries.append(("ranks", _spark(state.rank_seconds), PLAIN))
    return entries


def _spark(values: list[float]) -> str:
    most = max(values) or 1.0
    return "".join(BARS[min(7, max(0, round(value / most * 7)))] for value in values)


def _grid(entries: list[tuple[str, str, Style]], width: int, look: Look) -> list[Line]:
    """Names and values in as many columns as fit."""
    columns = max(1, width // 26) if width >= NARROW else max(1, width // 20)
    room = (width + 2) // columns - 2
    lines: list[Line] = []
    cells = [_entry(entry, room, look) for entry in entries]
    for first in range(0, len(cells), columns):
        line: Line = []
        for cell in cells[first : first + columns]:
            line += [Segment("  "), *cell] if line else cell
        lines.append(line)
    return lines


def _entry(entry: tuple[str, str, Style], room: int, look: Look) -> Line:
    name, value, style = look.text(entry[0], DIM), look.text(entry[1], entry[2]), entry[2]
    space = room - cell_len(value.text) - 1
    if style is BAD or style is NOTABLE:
        name = look.text(entry[0], style)
    return Segment.adjust_line_length([*Segment.adjust_line_length([name], max(space, 1)), Segment(" "), value], room)


def _middle(state: RunState, entries: list[tuple[str, str, Style]], width: int, height: int, look: Look) -> list[Line]:
    """The curves, and numbers right of them, if any are given."""
    if not entries:
        return _curves(state, width, height, look)
    left = width - NUMBERS_WIDTH - 3
    column = [_entry(entry, NUMBERS_WIDTH, look) for entry in entries][: max(height, 1)]
    curves = _curves(state, left, height, look)
    lines = max(len(curves), len(column))
    curves += [[]] * (lines - len(curves))
    column += [[]] * (lines - len(column))
    return [
        [*Segment.adjust_line_length(curve, left), Segment("   "), *entry]
        for curve, entry in zip(curves, column, strict=True)
    ]


def _curves(state: RunState, width: int, height: int, look: Look) -> list[Line]:
    """Loss and logit scale beside each other, or the loss alone; in one line where there is no room for curves."""
    step = state.step
    if step is None or height < 1:
        return []
    loss = [look.text("loss ", DIM), _loss(state, look)]
    if state.smooth_loss is not None and width >= NARROW:
        loss.append(look.text(f"  lately {state.smooth_loss:.4f}", DIM))
    if width < NARROW:
        return _with_curve(loss, state.loss, width, height, look)
    scale = [look.text("logit scale ", DIM), look.text(f"{step.logit_scale:.2f}", BOLD)]
    right = (width - 3) * 2 // 5
    left = width - 3 - right
    pair = (_with_curve(loss, state.loss, left, height, look), _with_curve(scale, state.scale, right, height, look))
    return [[*Segment.adjust_line_length(a, left), Segment("   "), *b] for a, b in zip(*pair, strict=True)]


def _loss(state: RunState, look: Look) -> Segment:
    loss = state.step.loss if state.step else 0.0
    return look.text(f"{loss:.4f}", BOLD if abs(loss) < float("inf") else BAD)


def _with_curve(title: Line, curve: Curve, width: int, height: int, look: Look) -> list[Line]:
    if height < CURVE_LINES[0]:
        return [title]
    return [title, *plot(curve, width, height - 1, braille=look.unicode)]


def _validation(state: RunState, width: int, look: Look, *, most: int) -> list[Line]:
    """The last figures in so many lines, in two columns where there is room."""
    validation = state.validation
    if validation is None:
        return []
    columns = 2 if width >= WIDE and len(state.metrics) > most else 1
    room = (width - 3 * (columns - 1)) // columns
    shown = list(state.metrics.items())[: most * columns]
    taken = FIGURE_WIDTH + (max((len(_best(metric)) for _, metric in shown), default=0) if room >= NARROW else 0)
    longest = min(max((cell_len(name) for name, _ in shown), default=0), max(room - taken, 10))
    cells = [_figure(name, metric, longest, room, look) for name, metric in shown]
    title = [look.text("validation", DIM), look.text(f" at step {validation.step:,}")]
    if validation.seconds:
        title.append(look.text(f" · {short_time(validation.seconds)}", DIM))
    if len(state.metrics) > len(shown):
        title.append(look.text(f" · {len(state.metrics) - len(shown)} more in validation.jsonl", DIM))
    lines = [title]
    for row in range(min(most, len(cells))):
        line: Line = []
        for cell in cells[row::most]:
            line += [Segment("   ")] if line else []
            line += Segment.adjust_line_length(cell, room)
        lines.append(line)
    return lines


def _figure(name: str, metric: Metric, longest: int, room: int, look: Look) -> Line:
    line = Segment.adjust_line_length([look.text(name)], longest)
    line.append(look.text(f"  {metric.last:8.4f}", BOLD))
    if metric.before is None:
        line.append(Segment(" " * 9))
    else:
        style = GOOD if metric.last == metric.best != metric.before else PLAIN
        line.append(look.text(f"  {metric.last - metric.before:+.4f}", style))
    if room >= NARROW:
        line.append(look.text(_best(metric), DIM))
    return line


def _best(metric: Metric) -> str:
    return f"  best {metric.best:.4f} at step {metric.best_step:,}"


def _ending(state: RunState, width: int, look: Look, *, notices: int) -> list[Line]:
    return [*_checkpoint(state, width, look), *_epoch(state, look), *_notices(state, width, look, most=notices)]


def _checkpoint(state: RunState, width: int, look: Look) -> list[Line]:
    saved = state.checkpoint
    if saved is None:
        return []
    facts = [f"step {saved.step:,}"]
    if state.best_checkpoint is not None:
        facts.append(f"best: step {state.best_checkpoint:,}")
    facts += [f"{duration(state.clock() - state.checkpoint_time)} ago", f"written in {short_time(saved.seconds)}"]
    while cell_len(" · ".join(facts)) > width - len("checkpoint ") and len(facts) > 1:
        facts.pop()
    return [[look.text("checkpoint ", DIM), look.text(" · ".join(facts))]]


def _epoch(state: RunState, look: Look) -> list[Line]:
    return [] if state.epoch is None else [[look.text(epoch_line(state.epoch), DIM)]]


def _notices(state: RunState, width: int, look: Look, *, most: int) -> list[Line]:
    """The last serious notice and the last others in at most so many lines, wrapped, the newest at the end."""
    serious = [notice for notice in state.notices if notice.serious]
    shown: dict[int, list[Line]] = {}
    room = most
    for notice in [*serious[-1:], *reversed(state.notices)]:
        position = state.notices.index(notice)
        block = _notice(notice, width, look)[:most]
        if position not in shown and len(block) <= room:
            shown[position] = block
            room -= len(block)
    return [line for position in sorted(shown) for line in shown[position]]


def _notice(notice: Notice, width: int, look: Look) -> list[Line]:
    sign, style = ("! ", NOTABLE) if notice.serious else ("· ", DIM)
    text = look.text(notice.text + (f" ({notice.times:,} times)" if notice.times > 1 else "")).text
    parts = textwrap.wrap(text, max(width - 2, 8)) or [""]
    return [[look.text(sign if part is parts[0] else "  ", style), Segment(part, style)] for part in parts]


def _wrap(facts: Iterable[str], width: int, look: Look, style: Style, *, most: int) -> list[Line]:
    """Facts with a dot between, broken into lines only between facts."""
    lines: list[str] = []
    for fact in facts:
        joined = f"{lines[-1]} · {fact}" if lines else fact
        if lines and cell_len(look.text(joined).text) > width:
            lines.append(fact)
        else:
            lines[-1:] = [joined]
    return [[look.text(line, style)] for line in lines[:most]]
