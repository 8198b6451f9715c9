"""A set of files that takes the place of an earlier one."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from clippy_core.files import TEMPORARY_PREFIX, errors_named, refuse_foreign
from clippy_core.model.directory import is_file_name

CONFIG_MARK = b'"vision": {'
"""What every ``config.json`` of a model has near its beginning."""
SUFFIXES = (".onnx", ".onnx.data", ".pt2")
"""What files of an export end in; no other is ever deleted."""


@contextmanager
def folder_beside(out: Path) -> Iterator[Path]:
    """A temporary folder on the disk of ``out``, gone at the end: beside it, or within it where it exists already.

    Raises:
        DataError: ``out`` has a ``config.json`` of something else, which the export would write over.
    """
    refuse_foreign(out / "config.json", [CONFIG_MARK])
    # What exists may be a disk of its own, to which nothing can be renamed from outside.
    parent = out if out.is_dir() else out.absolute().parent
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}"
    folder.mkdir()
    try:
        with errors_named(folder, out):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(making: Path, out: Path, names: Sequence[str]) -> list[Path]:
    """Bring files to their place; those that only the previous export lists go last.

    Args:
        making: Where they are.
        out: Where they belong; made if missing.
        names: Their names, the sheet that lists them last, so that a run that is killed between two leaves a sheet
            whose hashes tell.

    Returns:
        The files in their place.
    """
    before = _listed(out / names[-1])
    out.mkdir(exist_ok=True)
    for name in names:
        os.replace(making / name, out / name)
    for name in before - set(names):
        (out / name).unlink(missing_ok=True)
    return [out / name for name in names]


def _listed(sheet: Path) -> set[str]:
    """Names of the files that an earlier export wrote, if its sheet can be read."""
    try:
        files = json.loads(sheet.read_text(encoding="utf-8"))["files"]
        names = {name for part, entry in files.items() for name in (part, *entry.get("external", ()))}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()
    return {name for name in names if is_file_name(name) and name.endswith(SUFFIXES)}
