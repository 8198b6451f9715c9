"""A dense benchmark of 171 labels at 512 × 512: pictures a second and memory, against interpolating every label.

    python benchmarks/dense_eval.py                                   both ways, to dense_eval.csv beside this file
    python benchmarks/dense_eval.py --pictures 5000 --rounds 1        as many pictures as COCO has

Both ways are the whole loop of ``clippy eval folder`` with clippy-lite on the same generated pictures: decode in
threads, encode, label, count. They differ in one line:

    clippy         the label map from the logits of the grid, which no array of labels × height × width comes into
    interpolate    ``F.interpolate`` of all logits to the mask's resolution, then ``argmax``

Each way runs in a process of its own, in turns; medians over rounds. ``times_interpolate`` is the median of what the
two have in one round, which other work on the machine changes least; ``peak_mb`` is how far the largest resident set
of the loop lies above the resident set after the model was loaded, the words were embedded and one picture was looked
at; ``labels_hw_mb`` is what labels × height × width takes in float32. Linux only, because that is where the kernel
tells the peak of a part of a process.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from surroundings import surroundings

HERE = Path(__file__).resolve()
SIDE, LABELS = 512, 171
WAYS = ("clippy", "interpolate")
FIGURES = ("images_per_s", "seconds", "label_ms", "peak_mb", "mIoU")


def main() -> None:
    """Measure both ways in processes of their own and write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=200, help="how many pictures (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measure(arguments.way, arguments.data)))
        return
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder), arguments.pictures)
        for turn in range(arguments.rounds):
            for way in WAYS[:: 1 if turn % 2 == 0 else -1]:
                command = [sys.executable, str(HERE), "--way", way, "--data", folder]
                done = subprocess.run(command, check=True, capture_output=True, text=True)
                found[way].append(json.loads(done.stdout))
                print(way, found[way][-1], file=sys.stderr)
    write(arguments.out, found, {"pictures": arguments.pictures, "rounds": arguments.rounds})


def draw(folder: Path, pictures: int) -> None:
    """Soft blotches of colour as JPEG files, masks of rectangles, and the names of COCO-Stuff's classes."""
    from clippy_core.evaluation.dense.vocabulary import coco

    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir()
    for number in range(pictures):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3)).astype(np.uint8))
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(folder / "images" / f"{number:05}.jpg", quality=90)
        mask_HW = np.kron(rng.integers(0, LABELS, (8, 8)), np.ones((SIDE // 8, SIDE // 8), int)).astype(np.uint8)
        Image.fromarray(mask_HW).save(folder / "masks" / f"{number:05}.png")
    names = [coco.name_in_prompt(name) for name in (*coco.THINGS.values(), *coco.STUFF.values())]
    assert len(set(names)) == LABELS
    (folder / "labels.txt").write_text("\n".join(names))


def measure(way: str, data: Path) -> dict[str, float]:
    """One run of the loop in this process."""
    from clippy_core import load
    from clippy_core.evaluation.benchmarks import BenchmarkOptions, folder
    from clippy_core.evaluation.dense import predict
    from clippy_core.evaluation.dense.evaluate import fit
    from clippy_core.evaluation.dense.evaluate import measure as loop
    from clippy_core.evaluation.protocols import resolve

    options, label_ms = BenchmarkOptions(), []

    class Timed(predict.ModelPredictor):
        """Says how long labels take, made either way."""

        def _label(self, features_PD: Any, grid: tuple[int, int], size: tuple[int, int], certainty: Any) -> Any:
            begin = time.perf_counter()
            if way == "clippy":
                found = super()._label(features_PD, grid, size, certainty)
            else:
                found = interpolate(features_PD, grid, size, self.embed_words()), None
            label_ms.append(1e3 * (time.perf_counter() - begin))
            return found

    dataset = folder.read(data)
    protocol = fit(resolve(options), dataset, options)
    predictor = Timed(load("clippy-lite", device="cpu", runtime="torch"), dataset, protocol, options.grouping)
    # The first pictures pay for what is set up once.
    loop(dataset, predictor, protocol, BenchmarkOptions(limit=1), side=predictor.side)
    label_ms.clear()
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    report = loop(dataset, predictor, protocol, options, side=predictor.side)
    return {
        "images_per_s": report.timing["images/s"],
        "seconds": report.timing["seconds"],
        "label_ms": statistics.median(label_ms),
        "peak_mb": memory("VmHWM") - before,
        "mIoU": report.metrics["mIoU"],
    }


def interpolate(features_PD: Any, grid: tuple[int, int], size: tuple[int, int], words_KD: Any) -> np.ndarray:
    """The label map as it is usually written."""
    import torch
    from torch.nn import functional

    with torch.inference_mode():
        # Contiguous, or interpolating takes five times as long.
        logits_1Khw = (features_PD @ words_KD.T).T.reshape(1, len(words_KD), *grid).contiguous()
        logits_1KHW = functional.interpolate(logits_1Khw, size=size, mode="bilinear", align_corners=False)
        return logits_1KHW[0].argmax(0).numpy()


def memory(what: str) -> float:
    """A line of ``/proc/self/status`` in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:")) / 1024


def write(path: Path, found: dict[str, list[dict[str, float]]], about: dict[str, Any]) -> None:
    """The medians, one row a way."""
    import torch

    about |= {"labels": LABELS, "height": SIDE, "width": SIDE, "labels_hw_mb": round(LABELS * SIDE * SIDE / 2**18, 1)}
    about |= {"threads": torch.get_num_threads(), "dtype": "float32", **surroundings("cpu", "numpy", "pillow")}
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["way", *FIGURES, "fastest_images_per_s", "times_interpolate", *about])
        for way, runs in found.items():
            figures = [statistics.median(run[figure] for run in runs) for figure in FIGURES]
            figures.append(max(run["images_per_s"] for run in runs))
            pairs = zip(runs, found["interpolate"], strict=True)
            figures.append(statistics.median(run["images_per_s"] / other["images_per_s"] for run, other in pairs))
            writer.writerow([way, *(f"{value:.6g}" for value in figures), *about.values()])


if __name__ == "__main__":
    main()
