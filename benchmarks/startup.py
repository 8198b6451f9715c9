"""How long `clippy segment photo.jpg --labels dog,grass` takes, from the shell to the files, and what it spends it on.

    python benchmarks/startup.py                    measure, to startup.csv beside this file
    python benchmarks/startup.py --repeats 10 --photo photo.jpg

Every run is a process of its own, started as a user starts it. Kinds take turns, so that whatever else the machine does
meets them alike:

    onnx, first      ONNX Runtime; no word was embedded before
    onnx, second     the same command again: what it says on the box
    torch            the same with --runtime torch

Wall time is that of the whole process; processor time (user + system, all threads) says what it would be on a machine
that does nothing else. Rows that begin with `step` are the command's own report of a second run, by wall clock;
`import` rows are what `python -X importtime` says remains, in a second run: milliseconds of the package and everything
it imports first, the largest of them.
"""

import argparse
import csv
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from surroundings import surroundings

HERE = Path(__file__).resolve()
PHOTO = HERE.parents[1] / "docs/photographs/cow.jpg"
KINDS = {"onnx, first": "onnx", "onnx, second": "onnx", "torch": "torch"}
IMPORTED = re.compile(r"^import time:\s+(\d+) \|\s+(\d+) \|( *)(\S+)$")
COLUMNS = [
    *(
        "what",
        "median_ms",
        "fastest_ms",
        "cpu_median_ms",
        "cpu_fastest_ms",
        "runs",
        "stretch",
        "load",
        "height",
        "width",
    ),
    *("device", "cores", "commit", "python", "torch", "onnxruntime", "numpy"),
]


class Run(NamedTuple):
    """One run of the command."""

    wall: float
    cpu: float
    document: dict[str, Any]
    messages: str


def run(kind: str, photo: Path, folder: Path, *more: str, **environment: str) -> Run:
    """The command as a process of its own, timed; times in milliseconds."""
    command = [sys.executable, "-m", "clippy_cli", "segment", str(photo), "--labels", "dog,grass", "--json"]
    command += ["--device", "cpu", "--runtime", KINDS[kind], "--out", str(folder / "out"), "--overwrite", *more]
    cache = {"CLIPPY_CACHE": str(folder / "cache"), "OMP_WAIT_POLICY": "PASSIVE"}
    if kind == "onnx, first":
        for file in (folder / "cache").rglob("*.words"):
            file.unlink()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(command, env=os.environ | cache | environment, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Run(1e3 * wall, 1e3 * cpu, json.loads(done.stdout), done.stderr)


def measure(
    photo: Path, folder: Path, repeats: int, torch_repeats: int
) -> tuple[dict[str, list[Run]], dict[str, float], float]:
    """Every kind in turn, after one round that fills the disk's cache; imports of a second run, in milliseconds; and
    the median stretch.
    """
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    stretches = []
    for turn in range(repeats + 1):
        stretches.append(stretch())
        for kind in KINDS:
            if turn == 0 or kind != "torch" or turn <= torch_repeats:
                done = run(kind, photo, folder)
                if turn:
                    runs[kind].append(done)
        print(f"round {turn} of {repeats}", file=sys.stderr)
    found = [imports(run("onnx, second", photo, folder, PYTHONPROFILEIMPORTTIME="1").messages) for _ in range(3)]
    names = set.union(*(set(one) for one in found))
    imported = {name: statistics.median(one.get(name, 0.0) for one in found) for name in names}
    return runs, imported, statistics.median(stretches)


def stretch() -> float:
    """By how much wall time exceeds processor time while this process does nothing but compute."""
    wall, cpu = time.perf_counter(), time.process_time()
    sum(range(10_000_000))
    return (time.perf_counter() - wall) / (time.process_time() - cpu)


def imports(messages: str) -> dict[str, float]:
    """Milliseconds that importing each module took, together with what it imported first."""
    lines = [found for line in messages.splitlines() if (found := IMPORTED.match(line))]
    return {found[4]: int(found[2]) / 1e3 for found in lines}


def rows(runs: dict[str, list[Run]], imported: dict[str, float]) -> Iterator[dict[str, Any]]:
    """One row a kind, then steps and imports of the second run."""
    for kind, done in runs.items():
        walls, cpus = [one.wall for one in done], [one.cpu for one in done]
        yield {
            "what": kind,
            "median_ms": round(statistics.median(walls)),
            "fastest_ms": round(min(walls)),
            "cpu_median_ms": round(statistics.median(cpus)),
            "cpu_fastest_ms": round(min(cpus)),
            "runs": len(done),
        }
    seconds = [one.document["seconds"] for one in runs["onnx, second"]]
    for step in seconds[0]:
        yield {"what": f"step {step}", "median_ms": round(1e3 * statistics.median(one[step] for one in seconds), 1)}
    for name, milliseconds in sorted(imported.items(), key=lambda item: -item[1])[:25]:
        yield {"what": f"import {name}", "median_ms": round(milliseconds, 1)}


def main() -> None:
    """Parse the command line, measure, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, default=PHOTO, help="photograph (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=10, help="runs of each kind (default: %(default)s)")
    parser.add_argument("--torch-repeats", type=int, default=3, help="runs with torch (default: %(default)s)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        runs, imported, stretched = measure(arguments.photo, Path(folder), arguments.repeats, arguments.torch_repeats)
    picture = runs["torch"][0].document["images"][0]
    around = {"height": picture["height"], "width": picture["width"]}
    around |= {"stretch": round(stretched, 2), "load": round(os.getloadavg()[1], 1)}
    around |= {"cores": os.cpu_count(), **surroundings("cpu", "onnxruntime", "numpy")}
    with open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows(runs, imported):
            writer.writerow([(around | row).get(column, "") for column in COLUMNS])
            print(row, file=sys.stderr)


if __name__ == "__main__":
    main()
