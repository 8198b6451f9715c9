"""Options that several commands share, declared once."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from clippy_core.segmentation.options import SegmentOptions


def named(out: str | Path) -> Path:
    """A folder's path as it was typed; an empty one, as from an unset variable, is not meant as the current folder."""
    from clippy_core.errors import UsageError

    if not str(out):
        raise UsageError("--out is empty; accepted: a folder, which is made if it is missing")
    return Path(out)


def folder(out: Path) -> Path:
    """Refuse a folder that cannot be written before hours of work are lost to it."""
    from clippy_core.errors import UsageError

    existing = next((path for path in (out, *out.absolute().parents) if path.exists()), Path("/"))
    if not existing.is_dir():
        raise UsageError(f"--out {out}: {existing} is a file; accepted: a folder, which is made if it is missing")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UsageError(f"--out {out}: {existing} cannot be written to (permission denied); choose another folder")
    return out


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR",
        help="A model that `clippy models` lists, its directory, or hf:ORG/NAME on the Hugging Face hub.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        metavar="FILE",
        help="Weights to use instead of the model's own: .pt, .pth, .bin or .safetensors.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", metavar="auto|cpu|cuda[:N]", help="Where to compute; auto takes a GPU that works.")
]
Precision = Annotated[
    str, typer.Option("--precision", metavar="auto|fp32|bf16|fp16", help="Number format; auto is fp32 on the CPU.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one machine-readable document on stdout.")]
Size = Annotated[
    int | None,
    typer.Option("--size", metavar="PIXELS", help="Short side the picture is resized to. (default: the model's own)"),
]
Window = Annotated[
    int | None,
    typer.Option("--window", metavar="PIXELS", help="Look through square windows of this size. (default: off)"),
]
Stride = Annotated[
    int | None,
    typer.Option("--stride", metavar="PIXELS", help="Distance between windows. (default: half the window)"),
]
Template = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT",
        help="Prompt around each word, with {} in it; repeat for an ensemble. (default: the model's own)",
    ),
]
Background = Annotated[
    str,
    typer.Option(
        "--background",
        metavar="RULE",
        help="When a pixel is none of these: none, threshold=T (cosine), margin=T, softmax=P, or words: wall|floor.",
    ),
]
Refine = Annotated[
    str,
    typer.Option(
        "--refine",
        metavar="none|guided",
        help="Let label borders follow the picture's edges, by a guided filter; up to 64 labels in one picture.",
    ),
]
Out = Annotated[
    Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for outputs.", parser=named, callback=folder)
]


def words(text: str) -> str:
    """Text as it was typed: where the locale is not UTF-8 but the terminal is, Python hands over undecoded bytes."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return text


def joined(texts: list[str] | None) -> str | None:
    """What an option that was given once or more often says in all; None if it was not given."""
    return ",".join(map(words, texts)) if texts else None


def segment_options(
    size: int | None,
    templates: list[str] | None,
    background: str,
    window: int | None,
    stride: int | None,
    **more: object,
) -> "SegmentOptions":
    """What the options above say, checked.

    Raises:
        UsageError: A value that is not accepted, or a stride without windows.
    """
    from clippy_core.errors import UsageError
    from clippy_core.segmentation.options import SegmentOptions, Windows

    if stride is not None and window is None:
        raise UsageError("--stride needs --window, the size of the windows in pixels")
    if window is not None and window < 1:
        raise UsageError(f"--window is {window}; accepted: 1 pixel or more")
    if not background.strip():
        raise UsageError("--background is empty; accepted: none, threshold=T, margin=T, softmax=P, or words")
    windows = None if window is None else Windows(window, max(1, window // 2) if stride is None else stride)
    prompts = tuple(words(template) for template in templates) if templates else None
    return SegmentOptions(size, prompts, words(background), windows, **more)  # type: ignore[arg-type]
