"""Photographs a second of each engine, and how far their label maps agree with PyTorch in fp32.

    clippy export onnx --quantize int8 --parts vision,text --out /tmp/int8      (and the same with fp16)
    python benchmarks/runtime.py --exported int8=/tmp/int8 fp16=/tmp/fp16       measure, to runtime.csv beside this file

200 photographs are cut from those in docs/: a window of 50 to 100 % of each side at a random place, resized to 640
pixels and stored as JPEG. Every engine segments all of them with 14 labels, decoding included, drawing and writing left
out. Engines take turns at ten photographs, so that whatever else the machine does meets them alike; a first turn that
warms them up is not counted. `per_second` is by wall clock, `cpu_ms` the processor time of all threads for one
photograph, `encode_ms` the median of the image tower alone. `agreement` is the share of equal pixels, over all
photographs and in the worst, and in the uncut photographs of docs/.
"""

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from surroundings import surroundings

from clippy_core.segmentation.segmenter import Segmenter, load

HERE = Path(__file__).resolve()
DOCS = HERE.parents[1] / "docs"
ORIGINALS = sorted([*DOCS.glob("photographs/*.jpg"), *DOCS.glob("gallery/*.jpg")])
LABELS = "dog,cow,grass,sky,castle,water,person,bird,sand,tree,mountain,cup,wall,crab"
BASE = "torch fp32"
TURN = 10
COLUMNS = [
    *("engine", "per_second", "cpu_ms", "encode_ms", "agreement", "worst", "agreement_uncut", "worst_uncut"),
    *("photographs", "side", "labels", "threads", "load", "device", "commit", "python", "torch", "onnxruntime"),
]


def cut(folder: Path, count: int, side: int) -> list[Path]:
    """Write photographs cut from those at hand; the same ones every time."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        with Image.open(ORIGINALS[number % len(ORIGINALS)]) as image:
            share = rng.uniform(0.5, 1)
            width, height = (max(32, int(length * share)) for length in image.size)
            left, top = (
                int(rng.uniform(0, whole - part)) for whole, part in zip(image.size, (width, height), strict=True)
            )
            part = image.convert("RGB").crop((left, top, left + width, top + height))
        part.thumbnail((side, side))
        paths.append(folder / f"{number:03}.jpg")
        part.save(paths[-1], quality=90)
    return paths


class Tally:
    """What one engine did."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self.encode: list[float] = []
        self.maps: dict[Path, np.ndarray] = {}

    def agreement(self, base: "Tally", paths: list[Path]) -> tuple[float, float]:
        """The share of equal pixels of all photographs, and the lowest of one."""
        equal = [(self.maps[path] == base.maps[path]) for path in paths]
        return sum(map(np.sum, equal)) / sum(one.size for one in equal), min(float(one.mean()) for one in equal)


def measure(engines: dict[str, Segmenter], paths: list[Path]) -> dict[str, Tally]:
    """Let the engines take turns."""
    tallies = {name: Tally() for name in engines}
    for first in range(-TURN, len(paths), TURN):
        for name, segmenter in engines.items():
            warming_up, tally = first < 0, tallies[name]
            begin, cpu = time.perf_counter(), time.process_time()
            done = {path: segmenter.segment(path, LABELS) for path in paths[max(0, first) : max(0, first) + TURN]}
            if not warming_up:
                tally.wall += time.perf_counter() - begin
                tally.cpu += time.process_time() - cpu
                tally.encode += [found.seconds["encode"] for found in done.values()]
                tally.maps |= {path: found.label_map for path, found in done.items()}
        print(f"{max(0, first + TURN)} of {len(paths)}", file=sys.stderr)
    return tallies


def rows(engines: dict[str, Segmenter], tallies: dict[str, Tally], paths: list[Path]) -> Iterator[dict[str, Any]]:
    """One row an engine."""
    for name, tally in tallies.items():
        for original in ORIGINALS:
            tally.maps[original] = engines[name].segment(original, LABELS).label_map
    base = tallies[BASE]
    for name, tally in tallies.items():
        (share, worst), (uncut, worst_uncut) = (tally.agreement(base, some) for some in (paths, ORIGINALS))
        yield {
            "engine": name,
            "per_second": round(len(paths) / tally.wall, 2),
            "cpu_ms": round(1e3 * tally.cpu / len(paths), 1),
            "encode_ms": round(1e3 * statistics.median(tally.encode), 1),
            "agreement": round(float(share), 6),
            "worst": round(worst, 6),
            "agreement_uncut": round(float(uncut), 6),
            "worst_uncut": round(worst_uncut, 6),
        }


def main() -> None:
    """Parse the command line, measure, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exported", nargs="*", default=[], metavar="NAME=DIR", help="exported models to measure too")
    parser.add_argument("--count", type=int, default=200, help="photographs (default: %(default)s)")
    parser.add_argument("--side", type=int, default=640, help="their longer side in pixels (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    arguments = parser.parse_args()
    engines = {
        BASE: load("clippy-lite", device="cpu", precision="fp32", runtime="torch"),
        "torch bf16": load("clippy-lite", device="cpu", precision="bf16", runtime="torch"),
        "onnx fp32": load("clippy-lite", device="cpu", runtime="onnx"),
    }
    for given in arguments.exported:
        name, _, folder = given.partition("=")
        engines[f"onnx {name}"] = load(folder, runtime="onnx")
    with tempfile.TemporaryDirectory() as folder:
        paths = cut(Path(folder), arguments.count, arguments.side)
        found = list(rows(engines, measure(engines, paths), paths))
    around = {"photographs": arguments.count, "side": arguments.side, "labels": len(LABELS.split(","))}
    around |= {"threads": torch.get_num_threads(), "load": round(os.getloadavg()[1], 1)}
    around |= surroundings("cpu", "onnxruntime")
    with open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in found:
            writer.writerow([(around | row).get(column, "") for column in COLUMNS])
            print(row, file=sys.stderr)


if __name__ == "__main__":
    main()
