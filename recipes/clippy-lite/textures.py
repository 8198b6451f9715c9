"""Directions for *stuff* words, from the named textures of a racing game.

ImageNet has no word for sky, grass or road, so nothing in the classifier says what they look like. SuperTuxKart's
textures and sky boxes carry such words in their file names. The mean feature of the textures of a word, minus the mean
over all words, is that word's direction in the image tower's feature space.
"""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.preprocess import to_input, working_size

PACKAGE = "supertuxkart-data"
MOST = 60
"""Textures of one word that are used at most."""
WORDS = {
    # The first pattern that matches a file's name decides.
    "sky": r"sky(?!scraper)|cloud",
    "brick wall": r"brick",
    "wall": r"wall",
    "road": r"asphalt|road",
    "grass": r"grass(?!.*dirt)",
    "water": r"water|ocean",
    "wood": r"wood|plank",
    "floor": r"floor|tile",
    "building": r"window|building|house|facade",
    "tree": r"leaf|leaves|tree|bush|pine|foliage|hedge",
    "snow": r"snow",
    "sand": r"sand",
    "rock": r"rock|cliff",
}
NOT_PICTURES = r"normal|_nm|alpha|mask|gloss|ibl|gfx|icon|particle|minimap|_ao|spec|bottom|_b\."


def fetch(cache: Path, name: str = PACKAGE) -> Path:
    """Download and unpack a Debian package, once; returns the folder of its files."""
    folder = cache / name
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", name], cwd=cache, check=True)
        package = next(iter(sorted(cache.glob(f"{name}_*.deb"))))
        subprocess.run(["dpkg", "-x", str(package), str(folder)], check=True)
        package.unlink()
    return folder


@torch.inference_mode()
def directions(model: DualEncoder, folder: Path, channels: int) -> dict[str, Tensor]:
    """Unit direction of each word among the first ``channels`` of the features."""
    means = {
        word: torch.stack([feature(model, path, channels) for path in paths]).mean(0)
        for word, paths in pictures(folder).items()
    }
    centre = torch.stack(list(means.values())).mean(0)
    return {word: F.normalize(mean - centre, dim=0) for word, mean in means.items()}


def pictures(folder: Path) -> dict[str, list[Path]]:
    """The textures of each word, in a fixed order."""
    found: dict[str, list[Path]] = {word: [] for word in WORDS}
    for path in candidates(folder):
        word = next((word for word, pattern in WORDS.items() if re.search(pattern, path.name.lower())), None)
        if word and len(found[word]) < MOST:
            found[word].append(path)
    return found


def candidates(folder: Path) -> Iterator[Path]:
    """Texture files that show something, at least 64 pixels a side."""
    for path in sorted(folder.rglob("*")):
        named_like_a_picture = path.suffix in (".jpg", ".png") and not re.search(NOT_PICTURES, path.name.lower())
        if named_like_a_picture and {"textures", "tracks"} & set(path.parts):
            with Image.open(path) as image:
                if min(image.size) >= 64:
                    yield path


def feature(model: DualEncoder, path: Path, channels: int) -> Tensor:
    """Mean unit feature over a texture's locations; transparent parts show a light sky."""
    with Image.open(path) as image:
        rgba = image.convert("RGBA")
    picture = Image.alpha_composite(Image.new("RGBA", rgba.size, (200, 215, 235, 255)), rgba).convert("RGB")
    picture.thumbnail((288, 288))
    pixels_HW3 = np.asarray(picture)
    config = model.config.vision
    size = working_size(pixels_HW3.shape[:2], config.size, model.vision.stride)
    patches_PD = model.encode_image(torch.from_numpy(to_input(pixels_HW3, size, config))[None]).patches_BPD[0]
    return F.normalize(patches_PD[:, :channels], dim=-1).mean(0)
