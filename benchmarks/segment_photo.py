"""Where the time of `clippy segment` goes: one 12-megapixel photograph, 150 labels, imports and model load left out.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/segment_photo.py     measure, to segment_photo.csv beside this file
    python benchmarks/segment_photo.py --photo photo.jpg           another photograph than the enlarged castle

Without the variable, threads of the model that wait for each other spin, which counts as processor time.

Every round does the whole job in this process, step by step, and embeds its labels anew:

    decode, text, encode, label    what ``segment`` does, as its result reports it
    summary and JSON               counting every label's pixels, and the JSON file
    draw                           the overlay, in memory
    write overlay, write labels    the PNG files, encoded and written as the command does
    floor                          the overlay's bytes written the same way without being encoded: not part of the job

``share`` is what towers (text, encode) and decoding take of everything, and of everything before drawing and writing:
median over rounds. Times are wall times; the two CPU rows are processor time of all threads, which does not get shorter
by being spread over cores, and their share takes the label map to be the single thread that it is.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from label_map import PHOTO
from PIL import Image
from surroundings import surroundings

from clippy_core import load
from clippy_core.files import write_bytes
from clippy_core.segmentation.overlay import draw_overlay
from clippy_core.segmentation.writers.documents import write_json_summary
from clippy_core.segmentation.writers.pictures import write_label_map
from clippy_core.segmentation.writers.png import write_png

HERE = Path(__file__).resolve()
SIZE = (4000, 3000)
LABELS = (  # noqa: SIM905 - reads better as lines
    "castle sky cloud tree grass hill mountain river lake sea beach sand rock cliff forest bush flower leaf "
    "branch field meadow path road street bridge tunnel wall tower roof window door gate arch stairs balcony "
    "column statue fountain church temple house hut barn factory lighthouse windmill ruin fence hedge garden park "
    "square market shop sign lamp bench table chair sofa bed pillow blanket carpet curtain mirror clock shelf "
    "cupboard drawer desk book paper pen computer keyboard screen phone camera radio guitar piano violin drum "
    "ball kite bicycle motorcycle car bus truck train tram boat ship ferry canoe airplane helicopter balloon "
    "person child crowd face hand hat coat shirt trousers dress shoe glove umbrella bag basket box bottle cup "
    "glass plate bowl spoon knife fork pot pan oven fridge sink tap bath towel soap bread cheese apple banana "
    "orange grape cake egg fish horse cow sheep goat pig dog cat bird"
).split()
JOB = ("decode", "text", "encode", "label", "summary and JSON", "draw", "write overlay", "write labels")
GOOD = ("decode", "text", "encode")
COLUMNS = "step median_ms fastest_ms share repeats labels height width threads device dtype commit python torch".split()  # noqa: SIM905


class Stopwatch:
    """Milliseconds of each step, round by round."""

    def __init__(self) -> None:
        self.rounds: list[dict[str, float]] = []

    @contextmanager
    def __call__(self, step: str, clock: Callable[[], float] = time.perf_counter) -> Iterator[None]:
        """Time the block as a step of the latest round."""
        begin = clock()
        yield
        self.rounds[-1][step] = 1e3 * (clock() - begin)

    def median(self, value: Callable[[dict[str, float]], float]) -> float:
        """Of something computed from each round."""
        return statistics.median(value(steps) for steps in self.rounds)


def measure(photo: Path, folder: Path, repeats: int) -> tuple[Stopwatch, tuple[int, int]]:
    """The job again and again after one round to warm up; also the picture's height and width."""
    segmenter = load("clippy-lite", device="cpu", runtime="torch")
    watch, stem = Stopwatch(), folder / "photo"
    for turn in range(repeats + 1):
        watch.rounds.append({})
        words = LABELS[turn:] + LABELS[:turn]  # another order, or their embeddings would be remembered
        with watch("CPU, segment", time.process_time):
            result = segmenter.segment(photo, words)
        watch.rounds[-1] |= {step: 1e3 * seconds for step, seconds in result.seconds.items()}
        with watch("CPU, draw and write", time.process_time):
            with watch("summary and JSON"):
                write_json_summary(result, stem)
            with watch("draw"):
                overlay_HW3 = draw_overlay(result)
            with watch("write overlay"):
                write_png(folder / "photo.overlay.png", overlay_HW3)
            with watch("write labels"):
                write_label_map(result, stem)
        plain = overlay_HW3.tobytes()
        with watch("floor"):
            write_bytes(folder / "photo.raw", plain)
    del watch.rounds[0]
    return watch, result.picture.size


def rows(watch: Stopwatch) -> Iterator[dict[str, Any]]:
    """One row a step, then the shares."""

    def share(steps: dict[str, float], job: tuple[str, ...]) -> float:
        return sum(steps[step] for step in GOOD) / sum(steps[step] for step in job)

    def cpu_share(steps: dict[str, float]) -> float:
        everything = steps["CPU, segment"] + steps["CPU, draw and write"]
        return (steps["CPU, segment"] - steps["label"]) / everything

    for step in (*JOB, "CPU, segment", "CPU, draw and write", "floor"):
        times = [steps[step] for steps in watch.rounds]
        yield {"step": step, "median_ms": round(statistics.median(times), 2), "fastest_ms": round(min(times), 2)}
    for name, value in {
        "towers and decoding, of everything": lambda steps: share(steps, JOB),
        "towers and decoding, before drawing and writing": lambda steps: share(steps, JOB[:4]),
        "towers and decoding, of all CPU time": cpu_share,
    }.items():
        yield {"step": name, "share": round(watch.median(value), 3)}


def main() -> None:
    """Parse the command line, measure, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="a photograph to take as it is (default: the castle at 4000 × 3000)")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=9, help="rounds (default: %(default)s)")
    arguments = parser.parse_args()
    assert len(set(LABELS)) == 150
    with tempfile.TemporaryDirectory() as folder:
        photo = arguments.photo or Path(folder) / "castle.jpg"
        if not arguments.photo:
            with Image.open(PHOTO) as image:
                image.convert("RGB").resize(SIZE, Image.Resampling.LANCZOS).save(photo, quality=90)
        watch, (height, width) = measure(photo, Path(folder), arguments.repeats)
    around = {"repeats": arguments.repeats, "labels": len(LABELS), "height": height, "width": width}
    around |= {"threads": torch.get_num_threads(), "dtype": "float32", **surroundings("cpu", "numpy")}
    with open(arguments.out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows(watch):
            line = around | row
            writer.writerow([line.get(column, "") for column in COLUMNS])
            print(row, file=sys.stderr)


if __name__ == "__main__":
    main()
