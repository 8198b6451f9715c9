"""Memory and time of ``clippy analyze`` on a few pictures and on many: it must not grow with their number.

    python benchmarks/analyze_memory.py                       20 and 200 pictures, to analyze_memory.csv beside it
    python benchmarks/analyze_memory.py --kinds group         one analysis; rows of others stay in the CSV
    python benchmarks/analyze_memory.py --counts 5 50 --json  as JSON on stdout, and no CSV

Every analysis runs as the command would, in a process of its own, on crops of the photographs in ``docs``, with labels.
``peak_mb`` is the largest resident set of that process, ``baseline_mb`` its resident set once the model has looked at
one picture. ``page_mb`` is the size of the report, which does grow. Linux only, because that is where the kernel tells
the peak of a process.
"""

import argparse
import contextlib
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from surroundings import surroundings

HERE = Path(__file__).resolve()
PHOTOGRAPHS = ("photographs/castle.jpg", "photographs/cow.jpg", "gallery/lomiri-picosdeeuropa.jpg")
LABELS = "cow,grass,sky,castle,water,tree"
KINDS: dict[str, list[str]] = {
    "features": ["--labels", LABELS],
    "group": ["--segments", "8", "--labels", LABELS],
    "pooling": ["--labels", LABELS],
}
SIDE = 480


def main() -> int:
    """Measure every analysis at every number of pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--counts", nargs="+", type=int, default=[20, 200])
    parser.add_argument("--json", action="store_true", help="print the rows instead of writing the CSV")
    parser.add_argument("--analyze", nargs=3, metavar=("KIND", "DIR", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.analyze:
        kind, folder, out = options.analyze
        json.dump(analyze(kind, Path(folder), Path(out)), sys.stdout)
        return 0
    rows = [measure(kind, count) for kind in options.kinds for count in options.counts]
    if options.json:
        json.dump(rows, sys.stdout)
    else:
        save(rows)
    return 0


def measure(kind: str, count: int) -> dict[str, Any]:
    """Crop the pictures, analyse them in a process, forget."""
    with tempfile.TemporaryDirectory() as folder:
        pictures, out = Path(folder, "pictures"), Path(folder, "out")
        crop(pictures, count)
        command = [sys.executable, str(HERE), "--analyze", kind, str(pictures), str(out)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(done.splitlines()[-1])
        page = (out / "report.html").stat().st_size
    row = {"kind": kind, "pictures": count, **found, "page_mb": round(page / 1e6, 1)}
    print(row, file=sys.stderr)
    return row


def crop(folder: Path, count: int) -> None:
    """Write ``count`` different pictures, square crops of photographs."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        with Image.open(HERE.parents[1] / "docs" / PHOTOGRAPHS[number % len(PHOTOGRAPHS)]) as opened:
            image = opened.convert("RGB")
        side = int(min(image.size) * rng.uniform(0.5, 1))
        left, top = (int(rng.integers(0, length - side + 1)) for length in image.size)
        crop = image.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))
        crop.save(folder / f"{number:03d}.jpg", quality=90)


def analyze(kind: str, folder: Path, out: Path) -> dict[str, Any]:
    """What the command does, and the memory and time that takes."""
    from clippy_cli.main import run
    from clippy_core.images import read_picture
    from clippy_core.segmentation.segmenter import load

    load("clippy-lite", device="cpu", runtime="torch").encode(read_picture(next(folder.iterdir())).pixels_HW3)
    baseline, start, begin = resident("VmRSS"), time.perf_counter(), time.process_time()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):  # the command's own tables
        code = run(["-q", "analyze", kind, str(folder), *KINDS[kind], "--device", "cpu", "--out", str(out)])
    if code:
        raise SystemExit(code)
    return {
        "baseline_mb": round(baseline / 1e6, 1),
        "peak_mb": round(resident("VmHWM") / 1e6, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - begin, 1),
    }


def resident(what: str) -> int:
    """This process's resident set, now (``VmRSS``) or at its peak (``VmHWM``), in bytes."""
    found = re.search(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise SystemExit(f"this kernel does not tell {what}")
    return int(found[1]) * 1024


def save(rows: list[dict[str, Any]]) -> None:
    """The rows as CSV, with what they were measured on, in place of earlier ones of the same kinds and counts."""
    about, path = {"dtype": "float32", **surroundings("cpu", "scikit-learn", "matplotlib")}, HERE.with_suffix(".csv")
    kept = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            kept = list(csv.DictReader(file))
    known = {(row["kind"], int(row["pictures"])): row for row in kept}
    known |= {(row["kind"], row["pictures"]): row | about for row in rows}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], *about], lineterminator="\n")
        writer.writeheader()
        writer.writerows(known[key] for key in sorted(known))


if __name__ == "__main__":
    sys.exit(main())
