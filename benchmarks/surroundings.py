"""What measurements have in common: the columns that say what a figure depends on besides the code, and the CSV."""

import csv
import platform
import subprocess
import sys
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve()


def surroundings(device: str = "cpu", *packages: str) -> dict[str, str]:
    """Device, commit, Python, torch, and the versions of further ``packages``; empty where one is not installed.

    Args:
        device: ``cpu`` or ``cuda``.
        packages: Distributions, such as ``"numpy"``.
    """
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {"device": _device(device), "commit": _commit(), **versions, **{name: _version(name) for name in packages}}


def write_table(rows: list[dict[str, Any]], path: Path | None) -> None:
    """Write rows as CSV to standard output and, if ``path`` is given, to that file; columns are those of the first."""
    with open(path, "w", newline="") if path else nullcontext(sys.stdout) as file:
        for stream in {file, sys.stdout}:
            writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)


def _device(device: str) -> str:
    if device != "cpu":
        return torch.cuda.get_device_name()
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _commit() -> str:
    """The commit, marked if there are changes besides it."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    found = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=False)
    return found.stdout.strip() or "none yet"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
