"""The state of an unfinished run, so that a killed one goes on and comes to the counts of one that was not.

Every process writes what it has counted itself into a file of its own, again and again, whole. A run that goes on adds
up the files of all earlier attempts, whatever the number of processes they had, and looks at the other pictures. Files
carry the hash of everything the counts depend on; those of another model, protocol or list of pictures are not read.
"""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from clippy_core.evaluation.dense.cache import read_arrays, write_arrays
from clippy_core.evaluation.dense.tally import Tally
from clippy_core.evaluation.share import Share
from clippy_core.files import remove_leftovers

FOLDER = "progress"
SAVE_EVERY = 50
"""Pictures of one process."""


class Progress:
    """The files of one run.

    Every process makes one at the same time, as they agree on what is done.

    Args:
        out: The run's folder.
        key: Hash of everything the counts depend on.
        share: This process's part.
        empty: Makes a tally without a picture.
        notify: Told in one line of files that are not used.
        overwrite: Begin anew whatever is there.

    Attributes:
        earlier: What earlier attempts counted, in the first process; nothing in the others, so that the sum over
            processes has it once.
        done_N: Which pictures are counted, ``int64`` 0 or 1, the same in every process.
    """

    def __init__(
        self,
        out: Path,
        key: str,
        share: Share,
        empty: Callable[[], Tally],
        notify: Callable[[str], None],
        *,
        overwrite: bool = False,
    ) -> None:
        self.folder = out / FOLDER
        self.key = key
        self.share = share
        self.earlier = empty()
        attempt = np.zeros(1, np.int64)
        if share.rank == 0:
            remove_leftovers(self.folder)
            if overwrite:
                self.remove()
            attempt[0] = self._read(notify) + 1
        # Only the first process reads, so that nobody takes what another has begun to write for an earlier attempt.
        self.done_N = share.add_up(self.earlier.done_N.copy())
        self.path = self.folder / f"{key}-{int(share.add_up(attempt)[0])}-{share.rank}.npz"

    def save(self, tally: Tally) -> None:
        """Write what this process has counted in this attempt."""
        write_arrays(self.path, tally.arrays())

    def remove(self) -> None:
        """Delete the files of all attempts at this run; for one process, when the others no longer write."""
        for path in self._files():
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _files(self) -> dict[Path, int]:
        """Files of this run with the number of their attempt, in order."""
        pattern = re.compile(rf"{re.escape(self.key)}-(\d+)-(\d+)\.npz")
        found = [(match, path) for path in self.folder.glob("*.npz") if (match := pattern.fullmatch(path.name))]
        return {path: int(match[1]) for match, path in sorted(found, key=lambda item: (int(item[0][1]), item[1].name))}

    def _read(self, notify: Callable[[str], None]) -> int:
        """Add up what is there; the number of the last attempt, 0 if there was none."""
        files = self._files()
        others = {path for path in self.folder.glob("*.npz") if path not in files}
        if others:
            notify(
                f"{self.folder}: {len(others)} files are of a run with another model, protocol or list of pictures; "
                "they are not used"
            )
        for path in files:
            arrays = read_arrays(path)
            try:
                if arrays is None:
                    raise ValueError("damaged")
                self.earlier.absorb(arrays)
            except (ValueError, KeyError) as error:
                notify(f"{path}: cannot be used ({error}); its pictures are looked at again")
                path.unlink(missing_ok=True)
        return max(files.values(), default=0)
