"""Samples a second of the training data pipeline, side by side with OpenCLIP's on the same shards.

    pip install open_clip_torch pandas
    python benchmarks/data_pipeline.py                 the whole table, to data_pipeline.csv beside this file
    python benchmarks/data_pipeline.py --quick         a small one, to standard output

Shards are made here: procedural pictures with the texture of photographs, JPEG of quality 90, and a caption each.
Rows of one case are measured in turn, several rounds, each in a process of its own; medians and the range are kept, and
the ratio is the median of the rounds' own ratios, because other work on the machine comes and goes.

    clippy              Loader: uint8 batches, which the training loop normalises on its device
    clippy, normalised  the same, and the main process turns each batch into normalised float32
    open_clip           open_clip_train.data.get_wds_dataset with open_clip's own training transform: float32 batches
    decode alone        Pillow decodes every JPEG in one process and nothing else: the floor without reduced decoding

Both pipelines have the same shards, workers, batch size, 224 pixels, crops of 0.9…1 of the area, bicubic antialiased
resizing, and the same tokenizer. Time begins with the second batch: starting processes and filling OpenCLIP's shuffle
buffer is left out.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from surroundings import surroundings, write_table

HERE = Path(__file__).resolve()
SIZE, CROP, TOKENS = 224, 0.9, 32
PICTURES = {"512x384": (512, 384), "341x256": (341, 256), "1024x768": (1024, 768)}
METHODS = ("clippy", "clippy, normalised", "open_clip", "decode alone")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def picture(width: int, height: int, rng: np.random.Generator) -> bytes:
    """A JPEG whose detail falls off with frequency as in photographs, and some grain."""
    from PIL import Image

    pixels = rng.normal(0, 9, (height, width, 3))
    for octave in range(1, 9):
        cells = rng.normal(0, 255 / octave**1.6, (min(2**octave, height), min(2**octave, width), 3))
        for channel in range(3):
            layer = Image.fromarray(cells[..., channel].astype(np.float32))
            pixels[..., channel] += np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC)) / 4
    buffer = io.BytesIO()
    Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_shards(folder: Path, size: tuple[int, int], shards: int, each: int) -> float:
    """Write ``shards`` tar files of ``each`` samples; returns the mean bytes of a picture."""
    rng = np.random.default_rng(0)
    # Pictures repeat: making them takes longer than reading them ever will.
    pictures = [picture(*size, rng) for _ in range(64)]
    words = ("dog", "grass", "sky", "two", "people", "on a street", "with a", "red car", "near the", "old wooden table")
    for shard in range(shards):
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as archive:
            for number in range(each):
                caption = " ".join(rng.choice(words, 8)).encode()
                for extension, data in (("jpg", pictures[(shard + number) % 64]), ("txt", caption)):
                    member = tarfile.TarInfo(f"{shard:05d}{number:04d}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
    (folder / "sizes.json").write_text(json.dumps({f"{shard:05d}.tar": each for shard in range(shards)}))
    return statistics.mean(map(len, pictures))


def tokenizer() -> Any:
    """The bundled model's."""
    from clippy_core.model.presets import find
    from clippy_core.model.tokenizer import Tokenizer

    return Tokenizer(find("clippy-lite") / "tokenizer.json", TOKENS)


def ours(folder: Path, workers: int, batch: int, normalised: bool) -> Generator[int, None, None]:
    """Batches of the Loader, as numbers of samples."""
    import torch

    from clippy_core.training.config import DataConfig
    from clippy_core.training.data.loader import Loader
    from clippy_core.training.data.sources import open_source

    config = DataConfig(sources=(f"{folder}/*.tar",), workers=workers, crop=CROP)
    loader = Loader(
        open_source(config), tokenizer(), config, size=SIZE, batch_size=batch, accumulate=1, rank=0, world=1, seed=0
    )
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    for (part,) in loader.batches(0):
        if normalised:
            part.pixels_B3HW.float().div_(255).sub_(mean).div_(std)
        yield len(part.keys)


def theirs(folder: Path, workers: int, batch: int, shards: int) -> Generator[int, None, None]:
    """Batches of OpenCLIP's pipeline, as numbers of samples."""
    import torch
    from open_clip.transform import AugmentationCfg, image_transform  # pyright: ignore[reportMissingImports]
    from open_clip_train import data as open_clip_data  # pyright: ignore[reportMissingImports]

    # open_clip_torch 3.3.0 stumbles over the marks that webdataset 1.0 sets between shards (KeyError: 'fname').
    open_clip_data.tar_file_expander = partial(open_clip_data.tar_file_expander, eof_value=None)
    words = tokenizer()

    def padded(text: str) -> Any:
        ids_BL, _ = words([text])
        return torch.from_numpy(np.pad(ids_BL, ((0, 0), (0, TOKENS - ids_BL.shape[1]))))

    arguments = Namespace(
        train_data=f"{folder}/{{00000..{shards - 1:05d}}}.tar",
        train_num_samples=None,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        batch_size=batch,
        workers=workers,
        world_size=1,
        seed=0,
    )
    transform = image_transform(SIZE, is_train=True, mean=MEAN, std=STD, aug_cfg=AugmentationCfg(scale=(CROP, 1.0)))
    data = open_clip_data.get_wds_dataset(arguments, transform, True, tokenizer=padded)
    while True:
        for images, _ in data.dataloader:
            yield len(images)


def floor(folder: Path) -> Generator[int, None, None]:
    """Pictures decoded by Pillow, 64 at a time."""
    from PIL import Image

    with tarfile.open(folder / "00000.tar") as archive:
        members = [archive.extractfile(name) for name in archive.getnames()[:128] if name.endswith("jpg")]
        pictures = [member.read() for member in members if member is not None]
    while True:
        for data in pictures:
            Image.open(io.BytesIO(data)).convert("RGB")
        yield len(pictures)


def measure(method: str, folder: Path, workers: int, batch: int, shards: int, seconds: float) -> float:
    """Samples a second after the second batch, in this process."""
    ways: dict[str, Callable[[], Generator[int, None, None]]] = {
        "clippy": lambda: ours(folder, workers, batch, False),
        "clippy, normalised": lambda: ours(folder, workers, batch, True),
        "open_clip": lambda: theirs(folder, workers, batch, shards),
        "decode alone": lambda: floor(folder),
    }
    batches = ways[method]()
    for _ in range(2 + 2 * workers):  # what was read ahead while others started is not counted
        next(batches)
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += next(batches)
    rate = done / (time.perf_counter() - start)
    batches.close()
    return rate


def in_a_process(method: str, folder: Path, arguments: Namespace, workers: int) -> float:
    """:func:`measure` in a fresh process."""
    command = [sys.executable, str(HERE), "--method", method, "--folder", str(folder), "--batch", str(arguments.batch)]
    command += ["--workers", str(workers), "--shards", str(arguments.shards), "--seconds", str(arguments.seconds)]
    environment = os.environ | {"CLIPPY_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def rows_of(name: str, arguments: Namespace) -> Iterator[dict[str, Any]]:
    """The rows of one kind of picture."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        size = write_shards(folder, PICTURES[name], arguments.shards, arguments.each)
        for workers in arguments.worker_counts:
            found: dict[str, list[float]] = {method: [] for method in METHODS}
            for _ in range(arguments.rounds):
                for method in METHODS:
                    found[method].append(in_a_process(method, folder, arguments, workers))
            for method, rates in found.items():
                ratios = [rate / other for rate, other in zip(rates, found["open_clip"], strict=True)]
                yield {
                    "pictures": name,
                    "kilobytes": round(size / 1000, 1),
                    "workers": 1 if method == "decode alone" else workers,
                    "batch": arguments.batch,
                    "shape": f"{arguments.batch}x3x{SIZE}x{SIZE}",
                    "dtype": "float32" if method in METHODS[1:3] else "uint8",
                    "method": method,
                    "samples_per_second": round(statistics.median(rates), 1),
                    "lowest": round(min(rates), 1),
                    "highest": round(max(rates), 1),
                    "rounds": len(rates),
                    "times_open_clip": round(statistics.median(ratios), 2),
                }


def main() -> None:
    """Measure one method, or everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--each", type=int, default=1500)
    parser.add_argument("--worker-counts", type=int, nargs="+", default=[2])
    parser.add_argument("--pictures", nargs="+", choices=PICTURES, default=list(PICTURES)[:2])
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.method:
        chosen = arguments.method, arguments.folder, arguments.workers, arguments.batch, arguments.shards
        sys.stdout.write(f"{measure(*chosen, arguments.seconds)}\n")
        return
    if arguments.quick:
        arguments.rounds, arguments.seconds, arguments.worker_counts = 2, 3.0, [2]
    about = surroundings("cpu", "pillow")
    rows = [row | about for name in arguments.pictures for row in rows_of(name, arguments)]
    write_table(rows, None if arguments.quick else HERE.with_suffix(".csv"))


if __name__ == "__main__":
    main()
