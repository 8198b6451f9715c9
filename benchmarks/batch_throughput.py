"""How fast a folder is segmented, where the time goes, and whether memory stays flat.

    python benchmarks/batch_throughput.py               the whole table, to batch_throughput.csv beside this file
    python benchmarks/batch_throughput.py --quick       a small one, to standard output
    python benchmarks/batch_throughput.py --only memory,small,photographs,processes

Pictures are made here. Every row is a run in a process of its own (``segment_batch``); its speed is taken between the
first and the last tenth of the pictures, so that loading the model does not count.

    floor_ms      the slowest stage alone, which is the model: forward passes on ready tensors in the same process,
                  before and after the run; the faster of both
    wall_ms       a picture in the run, all stages
    of_floor      floor_ms / wall_ms; 1 means that reading, drawing and writing cost no time at all
    cpu_ms        processor time a picture, over all threads and processes
    grown_mb      resident memory at its highest after the first thousand pictures, less what it was there
    times_one     speed against the same with one process

With ``OMP_NUM_THREADS=1``, as set here, a forward pass uses one core and leaves the others to the rest.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from surroundings import surroundings, write_table

HERE = Path(__file__).resolve()
LABELS = "sky,grass,water,cow,castle"
FIRST = 1000
"""Pictures after which memory has to stay flat."""


@dataclass(frozen=True)
class Case:
    """A row of the table.

    Attributes:
        name: What is measured.
        pictures: How many.
        width: Pixels.
        height: Pixels.
        size: Short side the model sees.
        save: Writers.
        processes: How many share the work.
        runtime: What computes: ``torch`` or ``onnx``.
    """

    name: str
    pictures: int
    width: int
    height: int
    size: int
    save: str
    processes: int = 1
    runtime: str = "onnx"


CASES = {
    "memory": (Case("memory", 20_000, 64, 64, 64, "labelmap,json"),),
    "small": (
        Case("small", 2_000, 64, 64, 64, "labelmap,json"),
        Case("small", 2_000, 64, 64, 64, "labelmap,json", runtime="torch"),
        Case("small", 500, 64, 64, 224, "labelmap,json"),
        Case("small", 200, 64, 64, 448, "labelmap,json"),  # what the command does if no size is given
    ),
    "photographs": (
        Case("photographs", 150, 640, 480, 448, "labelmap,json"),
        Case("photographs", 150, 640, 480, 448, "overlay,labelmap,json"),
        Case("photographs", 150, 640, 480, 448, "overlay,labelmap,json", runtime="torch"),
        Case("photographs", 60, 4000, 3000, 448, "overlay,labelmap,json"),
    ),
    "processes": (  # the first is what the others are compared with
        Case("processes", 200, 640, 480, 448, "labelmap,json", 1),
        Case("processes", 200, 640, 480, 448, "labelmap,json", 2),
    ),
}


def write_pictures(folder: Path, case: Case) -> None:
    """JPEG files of smooth colour with some grain, all different."""
    from PIL import Image

    rng = np.random.default_rng(0)
    grain_HW1 = rng.normal(0, 6, (case.height, case.width, 1))
    folder.mkdir()
    for number in range(case.pictures):
        blocks = Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8))
        smooth_HW3 = np.asarray(blocks.resize((case.width, case.height), Image.Resampling.BICUBIC), np.float32)
        pixels_HW3 = (smooth_HW3 + grain_HW1).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels_HW3).save(folder / f"{number:05d}.jpg", quality=90)


def floor(segmenter: Any, case: Case, seconds: float = 3.0) -> float:
    """Seconds of one forward pass on a ready tensor: the median."""
    from clippy_core.model.preprocess import to_input, working_size

    pixels_HW3 = np.random.default_rng(0).integers(0, 256, (case.height, case.width, 3), np.uint8)
    size = working_size((case.height, case.width), case.size, segmenter.engine.stride)
    pixels_B3HW = to_input(pixels_HW3, size, segmenter.config.vision)[None]
    times: list[float] = []
    while sum(times) < seconds:
        start = time.perf_counter()
        segmenter.engine.encode_image(pixels_B3HW)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def resident() -> float:
    """Megabytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(case: Case, folder: Path, out: Path) -> dict[str, Any]:
    """One run in this process."""
    from clippy_core import events
    from clippy_core.prompts import parse_labels
    from clippy_core.segmentation.batch.run import Job, ModelChoice, alone, segment_batch
    from clippy_core.segmentation.batch.sharing import several
    from clippy_core.segmentation.inputs import find_inputs
    from clippy_core.segmentation.options import SegmentOptions

    choice = ModelChoice(device="cpu", runtime=case.runtime)
    job = Job(parse_labels(LABELS), SegmentOptions(size=case.size), choice.model, out, tuple(case.save.split(",")))
    items = find_inputs([str(folder)], out)
    finished: list[tuple[float, float]] = []
    at_first, highest = [0.0], [0.0]
    limits: dict[str, int] = dict.fromkeys(["reading", "model", "writing"], 0)

    def sink(event: events.Event) -> None:
        if isinstance(event, events.ItemFinished):
            assert event.error is None, event.error
            finished.append((time.perf_counter(), sum(os.times()[:4])))
            if len(finished) == min(FIRST, len(items) // 2):
                at_first[0] = resident()
            if len(finished) % 50 == 0 and at_first[0]:
                highest[0] = max(highest[0], resident())
        elif isinstance(event, events.StagesObserved):
            limits[event.limit] += 1

    if case.processes > 1:
        segment_batch(items, job, several(choice, case.processes), sink=sink)
        floors = [float("nan")]
    else:
        segmenter = choice.load()
        floors = [floor(segmenter, case)]
        segment_batch(items, job, alone(lambda: segmenter), sink=sink)
        floors.append(floor(segmenter, case))
    first, last = len(items) // 10, len(items) * 9 // 10
    (begin, cpu_begin), (end, cpu_end) = finished[first], finished[last]
    wall = (end - begin) / (last - first)
    most = max(limits, key=lambda stage: limits[stage])
    return {
        "wall_ms": round(wall * 1e3, 2),
        "images_per_second": round(1 / wall, 2),
        "floor_ms": round(min(floors) * 1e3, 2),
        "of_floor": round(min(floors) / wall, 3),
        "cpu_ms": round((cpu_end - cpu_begin) / (last - first) * 1e3, 2) if case.processes == 1 else "",
        "limit": f"{most} ({limits[most]}/{sum(limits.values())})" if sum(limits.values()) else "",
        "grown_mb": round(max(0.0, highest[0] - at_first[0]), 1) if case.processes == 1 else "",
        "threads": threading.active_count(),
    }


def in_a_process(case: Case) -> dict[str, Any]:
    """:func:`measure` in a fresh process, on fresh pictures."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary, "pictures"), Path(temporary, "out")
        write_pictures(folder, case)
        command = [sys.executable, str(HERE), "--measure", json.dumps(asdict(case)), str(folder), str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def earlier_rows(groups: list[str], columns: list[str]) -> list[dict[str, Any]]:
    """Rows of the table as it is that are not measured now; none if it has other columns."""
    table = HERE.with_suffix(".csv")
    if not table.exists():
        return []
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if row["name"] not in groups and list(row) == columns]


def main() -> None:
    """Measure one case, or all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="a twentieth of the pictures")
    parser.add_argument("--only", default=",".join(CASES), help="groups of rows, separated by commas")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        case, folder, out = arguments.measure
        sys.stdout.write(json.dumps(measure(Case(**json.loads(case)), Path(folder), Path(out))) + "\n")
        return
    about, rows = surroundings("cpu", "onnxruntime", "numpy", "pillow"), []
    for group in arguments.only.split(","):
        one = None
        for case in CASES[group]:
            if arguments.quick:
                case = Case(**{**asdict(case), "pictures": max(20, case.pictures // 20)})
            found = in_a_process(case)
            one = one or found["images_per_second"]
            more = {"times_one": round(found["images_per_second"] / one, 2) if group == "processes" else ""}
            rows.append({**asdict(case), **found, **more, "load": round(os.getloadavg()[0], 1), **about})
            sys.stderr.write(f"{case.name}: {found}\n")
    if not arguments.quick:
        rows += earlier_rows(arguments.only.split(","), list(rows[0]))
    write_table(rows, None if arguments.quick else HERE.with_suffix(".csv"))


if __name__ == "__main__":
    main()
