"""What each part of the recipe gives: short runs that differ in one thing, measured like the model itself.

    python recipes/clippy-lite/ablation.py --cache DIR [--only NAME…]

Each run is ``clippy train`` with train.toml for a quarter of the steps. Measured on the hand-labelled points, on
composites of things that no run has seen, and on how many of ImageNet's names keep their direction. Needs the shards
that build.py wrote. Lines go to ablation.csv beside this file.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import build  # beside this file
import composites
import measure
import torch
from start import LEVELS, Start, make_start
from webdataset.compat import WebDataset
from webdataset.writer import ShardWriter

from clippy_core.evaluation.benchmarks import BenchmarkOptions, points
from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.weights import LoadedModel, load_directory, save_directory
from clippy_core.segmentation.segmenter import Segmenter
from clippy_core.training.anchors import write_anchors

STEPS = 60
SMALL_SHARD = 80
"""Samples in a shard whose pictures are to meet in a batch: the parts of some fifteen photographs."""
HERE = Path(__file__).parent


def _random(start: Start) -> None:
    """Forget the closed form: a text projection as torch initialises one."""
    torch.manual_seed(0)
    projection: torch.nn.Linear = start.model.text.projection  # type: ignore[assignment]
    projection.reset_parameters()


def _as_it_is(start: Start) -> None:
    pass


def _frozen_but(*trained: str) -> str:
    """A setting that freezes every part of both towers but the last linear map and what is named."""
    image = [f"vision.trunk.{part}" for part in ("conv_stem", "bn1", *(f"blocks.{n}." for n in range(7)))]
    image += ["vision.trunk.conv_head", "vision.trunk.bn2"]
    text = ["text.encoder.embeddings", *(f"text.encoder.encoder.layer.{n}." for n in range(6))]
    kept = [name for name in [*image, *text, "logit_scale"] if name not in trained]
    return f"model.freeze={json.dumps(kept)}"


LAST_STAGE = ("vision.trunk.blocks.6.", "vision.trunk.conv_head", "vision.trunk.bn2")
VARIANTS: dict[str, tuple[tuple[str, ...], Callable[[Start], None], tuple[str, ...], str]] = {
    # name: levels, what is done to the start, settings, which shards
    "the recipe": (LEVELS, _as_it_is, (), "both"),
    "last features alone": ((), _as_it_is, (), "both"),
    "mean over locations": (LEVELS, _as_it_is, ("model.pool=mean",), "both"),
    "random text projection": (LEVELS, _random, (), "both"),
    "no anchors": (LEVELS, _as_it_is, ("loss.anchor_weight=0",), "both"),
    "composites alone": (LEVELS, _as_it_is, (), "composites"),
    "photographs alone": (LEVELS, _as_it_is, (), "photographs"),
    "last image stage trained": (LEVELS, _as_it_is, (_frozen_but(*LAST_STAGE),), "both"),
    "last image stage trained, a tenth of the rate": (
        LEVELS,
        _as_it_is,
        (_frozen_but(*LAST_STAGE), "optim.lr=1e-4"),
        "both",
    ),
    "last text layer trained": (LEVELS, _as_it_is, (_frozen_but("text.encoder.encoder.layer.5."),), "both"),
    "parts of one picture together": (LEVELS, _as_it_is, ("data.shuffle_shards=3",), "together"),
}


def main() -> None:
    """Train and measure each variant that has no line yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache/clippy-lite"))
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    arguments = parser.parse_args()
    cache: Path = arguments.cache.resolve()
    sources = build.write_shards(cache)
    for name in [name for name in arguments.only if name not in _measured()]:
        levels, change, settings, kind = VARIANTS[name]
        start = make_start(cache, levels)
        change(start)
        chosen = [source for source in sources if kind in ("both", "together") or kind in source]
        if kind == "together":
            chosen = _in_small_shards(chosen, cache / "shards-small")
        trained = _train(cache, name, start, chosen, settings)
        build.towards(start.model, trained, build.TOWARDS_TRAINED)
        _write(name, _figures(start, cache))


def _in_small_shards(sources: list[str], folder: Path) -> list[str]:
    """The same samples in the same order, in shards so small that a batch has many parts of each of its pictures.

    They are each other's negatives then, and harder ones than those of other pictures: what is beside a dog is no dog.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    small: list[str] = []
    for source in dict.fromkeys(sources):
        stem = Path(source).stem
        with ShardWriter(str(folder / f"{stem}-%03d.tar"), maxcount=SMALL_SHARD, verbose=0) as shard:
            for sample in WebDataset(source, shardshuffle=False):
                shard.write({key: value for key, value in sample.items() if key in ("__key__", "jpg", "json", "txt")})
        small += sorted(map(str, folder.glob(f"{stem}-*.tar"))) * sources.count(source)
    return small


def _train(cache: Path, name: str, start: Start, sources: list[str], settings: tuple[str, ...]) -> DualEncoder:
    folder = cache / "ablation" / name.replace(" ", "-")
    beginning, anchors = folder / "start", folder / "anchors.safetensors"
    save_directory(beginning, start.model, start.tokenizer_json, "")
    write_anchors(anchors, [synonyms[0] for synonyms in start.names], start.directions_KD)
    wanted = [f"loss.anchors={anchors}", f"run.steps={STEPS}", "run.save_every=1000", *settings]
    options = [part for setting in wanted for part in ("--set", setting)]
    command = [sys.executable, "-m", "clippy_cli", "train", *sources, "--model", str(beginning), "--name", "run"]
    where = ["--config", str(HERE / "train.toml"), "--out", str(folder), "--resume", "auto"]
    subprocess.run([*command, *where, *options], check=True)
    return load_directory(max((folder / "run/checkpoints").glob("step-*"))).model


def _figures(start: Start, cache: Path) -> dict[str, float]:
    segmenter = Segmenter(LoadedModel(start.model, start.tokenizer), place("cpu"))
    results = list(points.outcomes(segmenter, cache / "photographs", BenchmarkOptions()))
    figures: dict[str, float] = {}
    for name, words in zip(measure.SETS, (4, 12), strict=True):
        of_set = [result for result in results if result.candidates == name]
        figures[f"points, {words} words"] = _share(of_set)
        for kind in ("thing", "stuff", "person"):
            figures[f"{kind}, {words} words"] = _share([one for one in of_set if measure.kind_of(one.label) == kind])
    held_out = composites.measure(segmenter, build.composer(cache, held_out=True))
    figures |= {
        f"held-out composites: {key}": held_out[key] for key in ("mIoU", "mIoU of things", "mIoU of stuff", "JS")
    }
    return figures | {"ImageNet names": float(measure.vocabulary(segmenter, start)["names top-1"].split()[0]) / 100}


def _share(results: list[points.Outcome]) -> float:
    return sum(result.predicted == result.label for result in results) / len(results)


def _measured() -> set[str]:
    path = HERE / "ablation.csv"
    if not path.exists():
        return set()
    with open(path, newline="", encoding="utf-8") as file:
        return {row["variant"] for row in csv.DictReader(file)}


def _write(name: str, figures: dict[str, float]) -> None:
    path = HERE / "ablation.csv"
    fresh = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(["variant", *figures])
        writer.writerow([name, *(f"{value:.3f}" for value in figures.values())])


if __name__ == "__main__":
    main()
