"""A folder of photographs by ``clippy segment`` and in other ways, side by side in one run.

    python benchmarks/peers_batch.py               the whole table, to peers_batch.csv beside this file
    python benchmarks/peers_batch.py --quick       a small one, to standard output

    clippy folder    the command's own pipeline: reading, computing and writing at the same time, manifest and all
    clippy loop      the same model in a plain loop: read a picture, segment it, save the same files, take the next
    plain loop       the same model as one would write it in an afternoon: Pillow reads, torch computes, scores are
                     upsampled for every label, Pillow writes the label map; no overlay, no document
    rembg folder     ``rembg p``, which cuts out the foreground: another task with another model, and the folder command
                     that most people know. Needs ``pip install rembg[cli,cpu]`` and its model in ``~/.u2net``, which it
                     fetches from GitHub; left out, and said so, where either is missing.

The ways take turns for several rounds, because other work on the machine comes and goes; medians are kept. Loading the
model does not count, except for rembg, which has no way to leave it out.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from batch_throughput import LABELS, Case, write_pictures
from surroundings import surroundings, write_table

HERE = Path(__file__).resolve()
SAVE = ("overlay", "labelmap", "json")
REMBG_MODEL = "u2netp"


def clippy_folder(segmenter: Any, folder: Path, out: Path, size: int) -> None:
    """What ``clippy segment`` does."""
    from clippy_core.prompts import parse_labels
    from clippy_core.segmentation.batch.run import Job, alone, segment_batch
    from clippy_core.segmentation.inputs import find_inputs
    from clippy_core.segmentation.options import SegmentOptions

    job = Job(parse_labels(LABELS), SegmentOptions(size=size), "clippy-lite", out, SAVE)
    records = segment_batch(find_inputs([str(folder)], out), job, alone(lambda: segmenter))
    assert all(record.status == "ok" for record in records)


def clippy_loop(segmenter: Any, folder: Path, out: Path, size: int) -> None:
    """One after the other, by the public interface."""
    for path in sorted(folder.iterdir()):
        segmenter.segment(path, LABELS, size=size).save(out / path.stem, SAVE)


def plain_loop(segmenter: Any, folder: Path, out: Path, size: int) -> None:
    """Without anything of ours but the model."""
    import numpy as np
    import torch
    from PIL import Image

    from clippy_core.model.preprocess import to_input, working_size
    from clippy_core.prompts import parse_labels

    out.mkdir(parents=True, exist_ok=True)
    words_KD = segmenter.embed_labels(parse_labels(LABELS)).words_KD
    config, stride = segmenter.config.vision, segmenter.model.vision.stride
    for path in sorted(folder.iterdir()):
        pixels_HW3 = np.asarray(Image.open(path).convert("RGB"))
        given = working_size(pixels_HW3.shape[:2], size, stride)
        with torch.inference_mode():
            found = segmenter.model.encode_image(torch.from_numpy(to_input(pixels_HW3, given, config))[None])
            scores_1Khw = (found.patches_BPD @ words_KD.T).mT.unflatten(2, found.grid)
            scores_1KHW = torch.nn.functional.interpolate(scores_1Khw, pixels_HW3.shape[:2], mode="bilinear")
        Image.fromarray(scores_1KHW[0].argmax(0).byte().numpy()).save(out / f"{path.stem}.png")


def rembg_folder(segmenter: Any, folder: Path, out: Path, size: int) -> None:
    """``rembg``'s command for folders, in a process of its own."""
    subprocess.run(["rembg", "p", "-m", REMBG_MODEL, str(folder), str(out)], check=True, capture_output=True)


WAYS = {
    "clippy folder": clippy_folder,
    "clippy loop": clippy_loop,
    "plain loop": plain_loop,
    "rembg folder": rembg_folder,
}


def rembg_is_here() -> bool:
    """Whether rembg and its model are on this machine."""
    home = Path(os.environ.get("U2NET_HOME", Path.home() / ".u2net"))
    return shutil.which("rembg") is not None and (home / f"{REMBG_MODEL}.onnx").is_file()


def main() -> None:
    """Measure all ways in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pictures", type=int, default=60)
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rounds, arguments.pictures = 2, 8
    ways = list(WAYS) if rembg_is_here() else [way for way in WAYS if way != "rembg folder"]
    if "rembg folder" not in ways:
        sys.stderr.write("rembg or its model is not here: that row is left out\n")
    from clippy_core.segmentation.segmenter import load

    segmenter = load("clippy-lite", device="cpu", runtime="torch")
    case = Case("peers", arguments.pictures, 1280, 960, 448, ",".join(SAVE))
    rates: dict[str, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "pictures")
        write_pictures(folder, case)
        for number in range(arguments.rounds):
            for way in ways:
                start = time.perf_counter()
                WAYS[way](segmenter, folder, Path(temporary, f"{way} {number}"), case.size)
                rates[way].append(case.pictures / (time.perf_counter() - start))
    about = surroundings("cpu", "pillow", "rembg") | {"threads": os.environ.get("OMP_NUM_THREADS", "")}
    rows = []
    for way, found in rates.items():
        times = [one / other for one, other in zip(rates["clippy folder"], found, strict=True)]
        rows.append(
            {
                "way": way,
                "pictures": case.pictures,
                "pixels": f"{case.width}x{case.height}",
                "size": case.size,
                "images_per_second": round(statistics.median(found), 2),
                "lowest": round(min(found), 2),
                "highest": round(max(found), 2),
                "rounds": len(found),
                "clippy_folder_is_times_this": round(statistics.median(times), 2),
                "load": round(os.getloadavg()[0], 1),
                **about,
            }
        )
    write_table(rows, None if arguments.quick else HERE.with_suffix(".csv"))


if __name__ == "__main__":
    main()
