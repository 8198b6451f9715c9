"""Pictures inside tar files, as webdataset writes them: each a place in the file, found from the headers alone.

An archive is read member by member up to where it can be believed. What stops it there (a damaged header, an end in
the middle of a member, a missing end mark) is a fault, which the run reports as a failed input of the archive's name;
libraries that skip such places lose pictures without a word.
"""

import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from clippy_core.images import SUFFIXES

SUFFIX = ".tar"
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Member:
    """A picture in an archive, or what is wrong with the archive.

    Attributes:
        name: Its name there; made unique where the archive holds several of that name.
        offset: Where its bytes begin.
        size: How many there are.
        fault: Why the archive could not be read on; then the rest is empty.
    """

    name: str = ""
    offset: int = 0
    size: int = 0
    fault: str = ""


def read_members(path: Path) -> Iterator[Member]:
    """Every picture of an archive in its order, and at the end its fault, if it has one."""
    names: Counter[str] = Counter()
    place = 0
    try:
        with tarfile.open(path, "r:") as archive:
            whole = os.stat(path).st_size
            for member in archive:
                if not member.isreg() or member.sparse is not None:
                    continue
                if member.offset_data + member.size > whole:
                    yield Member(fault=f"the file ends at byte {whole:,}, in the middle of {member.name!r}")
                    return
                if PurePosixPath(member.name).suffix.lower() in SUFFIXES:
                    names[member.name] += 1
                    number = f"#{names[member.name]}" if names[member.name] > 1 else ""
                    yield Member(f"{member.name}{number}", member.offset_data, member.size)
                place = archive.offset  # type: ignore[attr-defined]
                archive.members.clear()  # type: ignore[attr-defined]
            fault = _fault_at(path, archive.offset)  # type: ignore[attr-defined]
    except tarfile.TarError as error:
        fault = f"not a tar file, or damaged at byte {place:,} ({error})"
    except OSError as error:
        fault = f"cannot be read ({error.strerror or error})"
    if not fault and not names:
        fault = "no picture in this archive"
    if fault:
        yield Member(fault=fault)


def safe_path(name: str) -> Path:
    """A member's or a list's name as a relative path that stays below the folder it is put in."""
    parts = [part for part in PurePosixPath(name.replace("\0", "")).parts if part not in ("/", "//", "..", ".")]
    return Path(*parts) if parts else Path("picture")


def _fault_at(path: Path, place: int) -> str:
    """What is wrong where the last member ended; nothing if an end mark stands there."""
    with open(path, "rb") as file:
        file.seek(place)
        block = file.read(BLOCK)
    if not block:
        return f"the file ends at byte {place:,} without the mark that ends an archive; members may be missing"
    if block.strip(b"\0"):
        return f"damaged header at byte {place:,}; what follows it is left out"
    return ""
