"""A report: pictures, tables and words about them, as a page that needs nothing but itself, and as JSON.

Nothing is held that need not be: pictures go to disk as they are drawn (:func:`keep`), and the page is written while
they are read back one by one.

Shapes: H/W pixel.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from clippy_core.errors import DeviceError
from clippy_core.files import atomic_write, write_bytes, write_json
from clippy_core.version import __version__

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

PAGE = "report.html"
DPI = 120
EXTRA = "pip install 'clippy-vlm[analyze]'"


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture of a report.

    Attributes:
        name: Where it is written in the report's folder, without a suffix; see :func:`safe_name`. A folder before the
            name is ``/``.
        image: ``uint8`` RGB of shape (H, W, 3) in 0…255, the bytes of a PNG file, or the path of a PNG file that is
            written already.
        title: What it shows, in a few words; also its text for those who cannot see it.
        caption: How to read it, in a sentence or two.
    """

    name: str
    image: np.ndarray | bytes | Path
    title: str
    caption: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of values.

    Attributes:
        title: What it shows.
        columns: Headings.
        rows: A value a column: text, whole or other numbers, or None for none. Columns of numbers are right-aligned and
            rounded to what their largest needs.
        caption: How to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report: words first, then pictures, then tables.

    Attributes:
        title: Its heading.
        text: Paragraphs, with an empty line between them.
        figures: Pictures, side by side where there is room.
        tables: Tables.
    """

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Report:
    """What was found.

    Attributes:
        what: The kind of analysis in one word, such as ``features``; the JSON file is called so.
        title: The page's heading.
        lead: What the reader should know first; paragraphs with an empty line between them.
        sections: The parts, in order.
        numbers: Every figure by name: text, numbers, None, and lists, mappings and arrays of them.
        settings: What was asked for: model, labels, options.
        main: Name of the picture that a terminal shows; empty for none.
        attached: Names of further files in the report's folder, which are there already.
    """

    what: str
    title: str
    lead: str
    sections: tuple[Section, ...]
    numbers: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    main: str = ""
    attached: tuple[str, ...] = ()

    def figures(self) -> Iterator[Figure]:
        """All pictures, in order."""
        for section in self.sections:
            yield from section.figures


def write_report(report: Report, out: Path) -> list[Path]:
    """Write the pictures, ``report.html`` and ``WHAT.json`` into a folder, each of them atomically.

    The page holds the pictures and all else it needs; it opens without a network. A picture that a reader of the page
    would wait for is in it as JPEG; the files are PNG.

    Returns:
        The files, pictures first, then what is attached.

    Raises:
        OSError: A file cannot be written.
    """
    from clippy_core.analysis.html import page

    pictures = [picture_path(out, figure.name) for figure in report.figures()]
    assert len(set(pictures)) == len(pictures), f"two pictures of one name: {sorted(pictures)}"
    for figure in report.figures():
        keep(figure, out)
    document = out / f"{report.what}.json"
    with atomic_write(out / PAGE) as file:
        file.writelines(page(report, lambda figure: picture_path(out, figure.name).read_bytes()))
    files = [*pictures, *(out / name for name in report.attached), out / PAGE, document]
    write_json(document, to_document(report, [file.relative_to(out).as_posix() for file in files]))
    return files


def keep(figure: Figure, out: Path) -> Figure:
    """Write a picture into the report's folder now; the figure then holds its path instead of its pixels."""
    path = picture_path(out, figure.name)
    if isinstance(figure.image, Path):
        if figure.image != path:
            write_bytes(path, figure.image.read_bytes())
    else:
        write_bytes(path, figure.image if isinstance(figure.image, bytes) else png_bytes(figure.image))
    return replace(figure, image=path)


def picture_path(out: Path, name: str) -> Path:
    """The file of the picture of that name; whatever the name is, it lies in the folder."""
    *folders, last = (safe_name(part) for part in name.split("/"))
    return out.joinpath(*folders, f"{last}.png")


def safe_name(text: str, limit: int = 200) -> str:
    """Text as a file's name: letters, digits, ``-``, ``_`` and dots inside; never a path, never empty.

    Args:
        text: The text.
        limit: How many bytes of UTF-8 it may have; the rest is cut off.
    """
    name = re.sub(r"[^\w.]+", "-", text).encode()[:limit].decode(errors="ignore").strip("-.")
    return name or "picture"


def to_document(report: Report, files: list[str]) -> dict[str, Any]:
    """The report as plain data: its numbers, settings and files; what is not a finite number is None."""
    return {
        "what": report.what,
        "title": report.title,
        "numbers": to_plain(report.numbers),
        "settings": to_plain(report.settings),
        "main": report.main,
        "files": files,
        "version": __version__,
    }


def to_plain(value: Any) -> Any:
    """Arrays, paths, tuples and numpy's numbers as what JSON has; floats with nine significant digits."""
    if isinstance(value, np.ndarray):
        return to_plain(value.tolist())
    if isinstance(value, np.generic):
        return to_plain(value.item())
    if isinstance(value, float):
        return float(f"{value:z.9g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def png_bytes(pixels_HW3: np.ndarray) -> bytes:
    """A picture, ``uint8`` RGB (H, W, 3), as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels_HW3).save(buffer, format="png", compress_level=3)
    return buffer.getvalue()


def figure_png(plot: "Plot") -> bytes:
    """What matplotlib drew, as a PNG file; the same drawing gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Labels may be in any script; a box for a letter that the font lacks is no reason to stop.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        plot.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def new_plot(width: float, height: float) -> "Plot":
    """An empty matplotlib figure of so many inches, drawn without a display.

    Raises:
        DeviceError: Matplotlib is not installed.
    """
    require_extra()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    plot = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(plot)
    return plot


def require_extra() -> None:
    """Make sure that what analyses draw and compute with is there.

    Raises:
        DeviceError: Matplotlib or scikit-learn is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise DeviceError(f"clippy analyze needs matplotlib and scikit-learn ({error}); {EXTRA}") from error
