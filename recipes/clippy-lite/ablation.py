"""What each part of the recipe gives: short runs that differ in one thing, measured like the model itself.

    python recipes/clippy-lite/ablation.py --cache DIR [--only NAME…]

Each run is ``clippy train`` with train.toml for a quarter of the steps. Measured on the hand-labelled points, on
composites of things that no run has seen, and on how many of ImageNet's names keep their direction. Needs the shards
that build.py wrote. Lines go to ablation.csv beside this file.
"""

import argparse
import csv
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

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
PARENTS = {
    "animal": "animal bird butterfly cat chameleon cheetah cow deer dog duck elephant fish giraffe goat hen horse"
    " insect kitten leopard lion lizard monkey panda parrot rabbit sheep tiger zebra feathers fur",
    "person": "boy child face girl hand head hiker man people person woman women men",
    "plant": "bush bushes dandelion flower flowers forest grass hedge lawn leaf leaves meadow moss palm petals plant"
    " plants rose tree trees trunk tulip",
    "building": "building buildings castle church dome house houses palace roof ruins temple tower windmill",
    "ground": "asphalt dirt floor gravel ground path pavement road sand snow street",
    "water": "lake pool river sea water waves",
    "rock": "cliff mountain mountains pebbles rock rocks stone stones",
    "food": "bread cake chips corn cupcake fruit kiwi lemon orange rice tomato vegetable",
    "vehicle": "bicycle boat bus car motorcycle ship train truck",
}
"""A broader word for the first of these words that a caption has."""
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
    "children of one parent together": (LEVELS, _as_it_is, ("data.shuffle_shards=3",), "siblings"),
    "parent against child": (LEVELS, _as_it_is, ("data.shuffle_shards=3",), "parents"),
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
        chosen = [source for source in sources if kind in ("both", *ORDERS) or kind in source]
        if kind in ORDERS:
            chosen = _in_small_shards(chosen, cache / f"shards-{kind}", ORDERS[kind])
        trained = _train(cache, name, start, chosen, settings)
        build.towards(start.model, trained, build.TOWARDS_TRAINED)
        _write(name, _figures(start, cache))


def _by_picture(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """As they are: parts of one picture are each other's negatives, and harder ones than those of other pictures."""
    yield from samples


def _by_parent(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Children of one parent word are each other's negatives: what is beside a cat in a batch is a dog, not a wall."""
    yield from sorted(samples, key=lambda sample: _parent(_said(sample).get("caption", [])))


def _with_parents(samples: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every part is there again under its parent word, which its own word then has to win against."""
    for sample in samples:
        yield sample
        said = _said(sample)
        captions = said.get("caption", [])
        if parent := _parent(captions):
            again = {**said, "caption": [f"a photo of {parent}" if "photo of" in text else parent for text in captions]}
            yield {**sample, "__key__": f"{sample['__key__']}-parent", "json": json.dumps(again).encode()}


ORDERS = {"together": _by_picture, "siblings": _by_parent, "parents": _with_parents}


def _said(sample: dict[str, Any]) -> dict[str, Any]:
    """What the sample of a part says; nothing for a whole picture, whose caption speaks of many things."""
    return json.loads(sample.get("json", "{}"))


def _parent(captions: list[str]) -> str:
    """The broader word for what captions of one part speak of; empty if there is none, or if it is that word itself."""
    for word in re.findall("[a-z]+", " ".join(captions[:1]).lower()):
        for parent, children in PARENTS.items():
            if word in children.split():
                return "" if parent in captions else parent
    return ""


def _in_small_shards(
    sources: list[str], folder: Path, order: Callable[[Iterable[dict[str, Any]]], Iterator[dict[str, Any]]]
) -> list[str]:
    """The samples in another order, in shards so small that neighbours meet in a batch."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    small: list[str] = []
    for source in dict.fromkeys(sources):
        stem = Path(source).stem
        with ShardWriter(str(folder / f"{stem}-%03d.tar"), maxcount=SMALL_SHARD, verbose=0) as shard:
            for sample in order(WebDataset(source, shardshuffle=False)):
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
