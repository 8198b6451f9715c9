"""Checkpoints of a run: written whole or not at all, found by number, trusted only if every hash fits.

``RUN/checkpoints/step-00001000/`` is a model directory, so it can be used with ``--model`` as it is, with one more
file, ``trainer.pt``: optimiser, scaler, moving average and position. A directory is made under a temporary name and
renamed when everything in it is on disk. What has another name is never taken for a checkpoint.
"""

import io
import os
import re
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from clippy_core.errors import CheckpointError
from clippy_core.files import TEMPORARY_PREFIX, errors_named, write_json
from clippy_core.model.directory import read_json, verify
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.weights import save_directory

STATE = "trainer.pt"
BEST = "best.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})")


class Found(NamedTuple):
    """A checkpoint that can be resumed from.

    Attributes:
        path: Its directory.
        state: Contents of ``trainer.pt``.
    """

    path: Path
    state: dict[str, Any]


def save(folder: Path, step: int, model: DualEncoder, tokenizer_json: bytes, card: str, state: dict[str, Any]) -> Path:
    """Write the checkpoint of a step; returns its directory.

    Raises:
        OSError: It cannot be written; earlier checkpoints are untouched, and nothing half-written remains.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, "step": step, **state}, buffer)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}"
    final = folder / f"step-{step:08d}"
    try:
        with errors_named(temporary, final):
            save_directory(temporary, model, tokenizer_json, card, extra={STATE: buffer.getvalue()})
        if final.exists():  # a damaged one that an earlier start of this run fell back from
            final.rename(folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(6)}")
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _to_disk(folder)
    return final


def listed(folder: Path) -> list[Path]:
    """Directories that are named as checkpoints are, the latest step first."""
    found = [path for path in folder.glob("step-*") if _NAME.fullmatch(path.name) and path.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(path: Path) -> int:
    """The step in a checkpoint's name."""
    named = _NAME.fullmatch(path.name)
    assert named, "only called with the names of checkpoints"
    return int(named[1])


def read(path: Path) -> Found:
    """Open one checkpoint.

    Raises:
        CheckpointError: A file is missing, damaged, of a later format, or holds anything but tensors and plain values;
            one line that names the file.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such checkpoint directory")
    verify(path)
    file = path / STATE
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: missing; this is a model, not the checkpoint of a run") from error
    except Exception as error:
        # The hash fits, so it is not damage: somebody wrote something else, which may raise anything while it is read.
        raise CheckpointError(f"{file}: not the state of a run ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"{file}: not the state of a run of format {FORMAT}")
    return Found(path, state)


def latest(folder: Path, problem: Callable[[str], None]) -> Found | None:
    """The latest checkpoint that is whole; ``problem`` hears of each later one that is not. None if there is none.

    Raises:
        CheckpointError: There are checkpoints, but none is whole.
    """
    candidates = listed(folder)
    for path in candidates:
        try:
            return read(path)
        except CheckpointError as error:
            problem(f"{error}; falling back to the checkpoint before it")
    if candidates:
        raise CheckpointError(f"{folder}: none of {len(candidates)} checkpoints can be used; see the reasons above")
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the ``keep`` latest checkpoints and the best one, and what a killed run left half-written."""
    best = best_of(folder)
    for path in listed(folder)[keep:]:
        if best is None or step_of(path) != best["step"]:
            shutil.rmtree(path)
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def best_of(folder: Path) -> dict[str, Any] | None:
    """``{"step", "metric", "value"}`` of the best checkpoint so far, if one was named."""
    with suppress(CheckpointError):
        best = read_json(folder / BEST)
        if {"step", "metric", "value"} <= best.keys():
            return best
    return None


def name_best(folder: Path, step: int, metric: str, value: float) -> None:
    """Say which checkpoint is the best."""
    write_json(folder / BEST, {"step": step, "metric": metric, "value": value})


def _to_disk(folder: Path) -> None:
    """Make a rename in ``folder`` survive a loss of power, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
