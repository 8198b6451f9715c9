"""Where the outputs of each input go, so that no two inputs write one file."""

import os
import re
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from clippy_core.segmentation.batch.manifest import NAME as MANIFEST
from clippy_core.segmentation.summary.report import PAGE, SHEET
from clippy_core.segmentation.writers import ENDINGS, FRAGMENTS, FRAME, RUN_FILES, VIDEO_ENDINGS

AT_THE_TOP = frozenset({MANIFEST, PAGE, SHEET, *RUN_FILES.values()})
"""Files that cover a run; no folder of outputs may be called so."""


class Stems:
    """Deals out stems, of which no two lead to one file.

    Inputs may meet in more ways than by equal stems: ``a.jpg`` writes ``a.labelme.json``, and so does the output
    ``json`` of ``a.labelme.jpg``; a frame of ``v.mp4`` is written where the outputs of ``v/frame-000000.jpg`` go; and
    the ``json`` of ``coco.jpg`` is the data set of the run. Nor can a file be where another input needs a folder:
    ``b.json`` of ``b.jpg`` beside ``b.json/c.jpg``. And no input is written over: with outputs beside the inputs,
    ``a.labels.png`` may be one of them.

    Args:
        relatives: Where each input lies below what the user gave, with its suffix.
        writers: Names of the outputs, whose endings decide what leads to one file. Of writers of other packages no
            endings are known.
        kept: Inputs that lie in the output folder, relative to it.
    """

    def __init__(self, relatives: Sequence[Path], writers: Sequence[str], kept: Collection[str] = ()) -> None:
        endings = {ENDINGS[name] for name in writers if name in ENDINGS}
        self._endings = endings | {VIDEO_ENDINGS[name] for name in writers if name in VIDEO_ENDINGS}
        of_the_run = {RUN_FILES[name] for name in writers if name in RUN_FILES}
        self._middles = [
            long.removesuffix(short) for long in endings for short in endings if long != short and long.endswith(short)
        ]
        self._reserved = {Path(name.removesuffix(end)) for name in of_the_run for end in endings if name.endswith(end)}
        shorts = [_visible(relative).with_suffix("") for relative in relatives]
        by_frame = not VIDEO_ENDINGS.keys() >= set(writers)
        there = [*shorts, *map(Path, kept)]
        self._framed = {short.parent for short in there if by_frame and short.name.startswith(FRAME)}
        direct = map(Path, {str(short).rpartition(os.sep)[0] for short in shorts})
        folders = {str(folder) for last in direct for folder in (last, *last.parents) if folder.suffix}
        self._barred = folders.union(kept)
        masks = kept if "masks" in writers else ()
        self._masked = {name[: at.start()] for name in masks for at in re.finditer(r"\.mask\.", name)}
        self._wanted = Counter(place for short in shorts for place in self._places(short))
        self._taken: set[str] = set()

    def take(self, relative: Path, *, video: bool = False) -> Path:
        """The stem of an input: its path without the suffix, else with it, else with a number."""
        relative = _visible(relative)
        short = relative.with_suffix("")
        alone = all(self._wanted[place] == 1 for place in self._places(short))
        stem = short if alone and not self._is_claimed(short, video=video) else relative
        number, candidate = 2, stem
        while self._is_claimed(candidate, video=video) or not self._taken.isdisjoint(self._places(candidate)):
            candidate, number = stem.with_name(f"{stem.name}-{number}"), number + 1
        self._taken.update(self._places(candidate))
        return candidate

    def _is_claimed(self, stem: Path, *, video: bool) -> bool:
        """Whether an output there is a file of the run, an input or its folder, or a video's frames meet pictures."""
        text = str(stem)
        if video and (stem in self._framed or text in AT_THE_TOP):
            return True
        in_the_way = self._barred and any(text + ending in self._barred for ending in self._endings)
        return bool(in_the_way) or stem in self._reserved or text in self._masked

    def _places(self, stem: Path) -> tuple[str, ...]:
        """The stem, and the shorter ones that lead to one of its files."""
        text = str(stem)
        return (text, *(text.removesuffix(middle) for middle in self._middles if text.endswith(middle)))


def _visible(relative: Path) -> Path:
    """The path with an underscore before names of folders and hidden files of our own."""
    text = str(relative)
    if FRAGMENTS not in text and text.partition(os.sep)[0] not in AT_THE_TOP:
        return relative
    parts = [f"_{part}" if part.startswith(FRAGMENTS) else part for part in relative.parts]
    if len(parts) > 1 and parts[0] in AT_THE_TOP:
        parts[0] = f"_{parts[0]}"
    return Path(*parts)
