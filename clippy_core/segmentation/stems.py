"""Where the outputs of each input go, so that no two inputs write one file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from clippy_core.segmentation.writers import ENDINGS, FRAGMENTS, FRAME, RUN_FILES, WHOLE_VIDEO


class Stems:
    """Deals out stems, of which no two lead to one file.

    Inputs may meet in more ways than by equal stems: ``a.jpg`` writes ``a.labelme.json``, and so does the output
    ``json`` of ``a.labelme.jpg``; a frame of ``v.mp4`` is written where the outputs of ``v/frame-000000.jpg`` go; and
    the ``json`` of ``coco.jpg`` is the data set of the run.

    Args:
        relatives: Where each input lies below what the user gave, with its suffix.
        writers: Names of the outputs, whose endings decide what leads to one file. Of writers of other packages no
            endings are known.
    """

    def __init__(self, relatives: Sequence[Path], writers: Sequence[str]) -> None:
        endings = {ENDINGS[name] for name in writers if name in ENDINGS}
        of_the_run = {RUN_FILES[name] for name in writers if name in RUN_FILES}
        self._middles = [
            long.removesuffix(short) for long in endings for short in endings if long != short and long.endswith(short)
        ]
        self._reserved = {Path(name.removesuffix(end)) for name in of_the_run for end in endings if name.endswith(end)}
        shorts = [_visible(relative).with_suffix("") for relative in relatives]
        by_frame = not WHOLE_VIDEO.issuperset(writers)
        self._framed = {short.parent for short in shorts if by_frame and short.name.startswith(FRAME)}
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
        """Whether the run itself writes there, or the frames of a video would meet pictures called like them."""
        return stem in self._reserved or (video and stem in self._framed)

    def _places(self, stem: Path) -> tuple[str, ...]:
        """The stem, and the shorter ones that lead to one of its files."""
        text = str(stem)
        return (text, *(text.removesuffix(middle) for middle in self._middles if text.endswith(middle)))


def _visible(relative: Path) -> Path:
    """The path with an underscore before names that begin like those of our own hidden files and folders."""
    if FRAGMENTS not in str(relative):
        return relative
    return Path(*(f"_{part}" if part.startswith(FRAGMENTS) else part for part in relative.parts))
