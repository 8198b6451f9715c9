"""Miniature data sets of classified pictures in the official layouts, and a model that recognises their pictures.

The middle of every picture has one colour, its number; the rest is noise. Class indices and the numbers of the
ILSVRC2012 development kit are written down here, not looked up in the code under test.
"""

import threading
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from clippy_core.evaluation.share import Share
from clippy_core.model.dual_encoder import ImageEmbedding

SIZES = ((41, 60), (60, 41), (48, 48), (37, 90))
STEP, LEVELS = 25, 10
WIDTH = 48
# The first pictures of the validation set: WordNet id, class index, number in the development kit.
HEAD = (
    *(("n01751748", 65, 490), ("n09193705", 970, 361), ("n02105855", 230, 171), ("n04263257", 809, 822)),
    *(("n03125729", 516, 297), ("n01735189", 57, 482), ("n02346627", 334, 13), ("n02776631", 415, 704)),
    *(("n03794056", 674, 599), ("n02328150", 332, 164), ("n01917289", 109, 649)),
)


@dataclass(frozen=True)
class Miniature:
    """A folder, and by the pictures' numbers their files and classes; Waterbirds has places too."""

    data: Path
    paths: tuple[Path, ...]
    truth: tuple[int, ...]
    places: tuple[int, ...] = ()


def draw(path: Path, number: int) -> Path:
    """A picture of noise with a square in its middle that has the colour of a number."""
    height, width = SIZES[number % len(SIZES)]
    pixels_HW3 = np.random.default_rng(number).integers(0, 256, (height, width, 3)).astype(np.uint8)
    colour = [2 + STEP * (number // LEVELS**place % LEVELS) for place in range(3)]
    pixels_HW3[height // 2 - 12 : height // 2 + 12, width // 2 - 12 : width // 2 + 12] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels_HW3).save(path, "JPEG", quality=95, subsampling=0)
    return path


def number_of(pixels_HW3: np.ndarray) -> int:
    """The number of a picture, whatever became of its size."""
    row, column = (length // 2 for length in pixels_HW3.shape[:2])
    colour = pixels_HW3[row - 2 : row + 2, column - 2 : column + 2].mean((0, 1))
    return sum(round((value - 2) / STEP) * LEVELS**place for place, value in enumerate(colour))


def imagenet_folders(data: Path, each: int = 2) -> Miniature:
    """``val/WNID/*.JPEG``, with a train split and stray files that are to be left alone."""
    wanted = sorted((index, wnid) for wnid, index, _ in HEAD)
    names = [(index, wnid, number) for index, wnid in wanted for number in range(each)]
    paths = tuple(
        draw(data / "val" / wnid / f"ILSVRC2012_val_{place:08}.JPEG", place) for place, (_, wnid, _) in enumerate(names)
    )
    draw(data / "train" / "n01440764" / "n01440764_18.JPEG", 999)
    (data / "val" / "valprep.sh").write_text("mkdir n01440764\n")
    (data / "val" / wanted[0][1] / "Thumbs.db").write_bytes(b"\0")
    return Miniature(data, paths, tuple(index for index, _, _ in names))


def imagenet_flat(data: Path, answers: str = "devkit") -> Miniature:
    """``ILSVRC2012_val_*.JPEG`` in one folder with the list of the development kit or Kaggle's."""
    folder = data / ("ILSVRC2012_img_val" if answers == "devkit" else "ILSVRC/Data/CLS-LOC/val")
    paths = tuple(draw(folder / f"ILSVRC2012_val_{number:08}.JPEG", number - 1) for number in range(1, 1 + len(HEAD)))
    if answers == "devkit":
        path = data / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
        path.parent.mkdir(parents=True)
        path.write_text("".join(f"{number}\n" for _, _, number in HEAD))
    else:
        # As on Kaggle: not in the order of numbers, and with one or more boxes after the class.
        rows = [
            f"ILSVRC2012_val_{place:08},{wnid} 85 1 499 272 " + f"{wnid} 1 2 3 4 " * (place % 2)
            for place, (wnid, _, _) in enumerate(HEAD, start=1)
        ]
        (data / "LOC_val_solution.csv").write_text("\n".join(["ImageId,PredictionString", *rows[::-1]]) + "\n")
    return Miniature(data, paths, tuple(index for _, index, _ in HEAD))


def imagenet_v2(data: Path, folder: str = "imagenetv2-matched-frequency-format-val") -> Miniature:
    """Folders by class index; in the order of text the third would be the second."""
    truth = [index for index in (0, 2, 10, 100, 999) for _ in range(2)]
    paths = tuple(draw(data / folder / str(index) / f"{place:040x}.jpeg", place) for place, index in enumerate(truth))
    return Miniature(data, paths, tuple(truth))


def class_folders(data: Path, names: tuple[str, ...] = ("cat", "hot_dog", "red fox"), each: int = 3) -> Miniature:
    """A folder a class, some pictures in a folder of their own."""
    truth = [index for index in range(len(names)) for _ in range(each)]
    paths = tuple(
        draw(data / names[index] / ("deeper" if place % each == 1 else "") / f"{place}.jpg", place)
        for place, index in enumerate(truth)
    )
    return Miniature(data, paths, tuple(truth))


def waterbirds(data: Path, counts: tuple[int, ...] = (4, 3, 2, 5)) -> Miniature:
    """``metadata.csv`` with ``counts`` test pictures of each group, 8, 1, 2, 5 train pictures, and one of val."""
    rows, paths, truth, places, group = [], [], [], [], 0
    species = ("016.Painted_Bunting", "001.Black_footed_Albatross")
    order = [(split, group) for split, sizes in ((2, counts), (0, (8, 1, 2, 5)), (1, (1, 0, 0, 0)))
             for group in range(4) for _ in range(sizes[group])]  # fmt: skip
    for place, (split, group) in enumerate(order):
        kind, ground = divmod(group, 2)
        name = f"{species[kind]}/{species[kind][4:]}_{place:04}_{796111 + place}.jpg"
        rows.append(f"{place + 1},{name},{kind},{split},{ground},/b/bamboo_forest/{place:08}.jpg")
        if split == 2:
            paths.append(draw(data / "waterbird_complete95_forest2water2" / name, place))
            truth.append(kind)
            places.append(ground)
    head = "img_id,img_filename,y,split,place,place_filename"
    text = "\n".join([head, *rows]) + "\n"
    (data / "waterbird_complete95_forest2water2" / "metadata.csv").write_text(text)
    return Miniature(data, tuple(paths), tuple(truth), tuple(places))


class Model:
    """Stands for a segmenter: a word is a fixed direction, a picture whatever ``see`` says of its number.

    Args:
        see: Gives the direction of a picture from its number.
        grid: Pixels a cell.
        weight: Its only weight, by which models are told apart.
    """

    def __init__(self, see: Callable[[int], np.ndarray], grid: int = 16, weight: float = 0.0) -> None:
        self.see = see
        vision = SimpleNamespace(size=32, pool="max")
        self.config = SimpleNamespace(name="fake", vision=vision, templates=("{}",), to_dict=lambda: {"name": "fake"})
        self.placement = SimpleNamespace(dtype=torch.float32, device=torch.device("cpu"))
        state = {"weight": torch.tensor([weight])}
        self.model = SimpleNamespace(vision=SimpleNamespace(stride=grid), state_dict=lambda: state)
        self.prompts: set[tuple[str, ...]] = set()
        self.words: list[str] = []
        self.seen: list[int] = []
        self.sizes: list[tuple[int, int]] = []

    def embed_words(self, words: list[str], templates: tuple[str, ...]) -> torch.Tensor:
        self.prompts.add(templates)
        self.words += words
        return torch.from_numpy(np.stack([direction(word) for word in words]))

    def encode_batch(self, pictures: list[np.ndarray], options: object) -> ImageEmbedding:
        numbers = [number_of(pixels_HW3) for pixels_HW3 in pictures]
        self.seen += numbers
        self.sizes += [pixels_HW3.shape[:2] for pixels_HW3 in pictures]
        assert len({pixels_HW3.shape for pixels_HW3 in pictures}) == 1
        pooled_BD = torch.from_numpy(np.stack([self.see(number) for number in numbers]))
        return ImageEmbedding(pooled_BD, pooled_BD[:, None], (1, 1))


def direction(word: object) -> np.ndarray:
    """A unit vector, ``float32``, different for every word."""
    vector_D = np.random.default_rng(zlib.crc32(str(word).encode())).normal(size=WIDTH)
    return (vector_D / np.linalg.norm(vector_D)).astype(np.float32)


@pytest.fixture
def together() -> Callable[[int, Callable[[Share], Any]], list[Any]]:
    """Threads that stand for processes: ``together(2, work)`` gives what ``work(share)`` returned to each."""

    def start(world: int, work: Callable[[Share], Any]) -> list[Any]:
        barrier, arrays = threading.Barrier(world, timeout=60), [np.zeros(0)] * world

        def run(rank: int) -> Any:
            def add_up(array: np.ndarray) -> np.ndarray:
                arrays[rank] = array
                barrier.wait()
                total = np.sum(arrays, axis=0)
                barrier.wait()
                return total

            return work(Share(rank, world, add_up))

        # Silenced warnings are a matter of the process, which these have in common.
        with warnings.catch_warnings(), ThreadPoolExecutor(world) as pool:
            return list(pool.map(run, range(world)))

    return start


@pytest.fixture(scope="session")
def sets() -> SimpleNamespace:
    """Makers of miniatures, and what they are made with."""
    return SimpleNamespace(
        imagenet_folders=imagenet_folders,
        imagenet_flat=imagenet_flat,
        imagenet_v2=imagenet_v2,
        class_folders=class_folders,
        waterbirds=waterbirds,
        draw=draw,
        direction=direction,
        Model=Model,
        HEAD=HEAD,
    )
