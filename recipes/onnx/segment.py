"""Label every pixel of a photograph with exported files, by onnxruntime, numpy, Pillow and tokenizers alone.

    clippy export onnx --out DIR
    python segment.py DIR photo.jpg "sky,grass|meadow,cow" labels.png

``labels.png`` has one grey value a pixel: the number of the label, from 0. Nothing here imports clippy; copy it.

Shapes: H/W pixel, h/w grid, D embedding, K word, L token.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer


def embed(words: list[str], folder: Path, sheet: dict) -> np.ndarray:
    """One unit vector a word: the mean over the model's templates."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(sheet["max_tokens"])
    encodings = tokenizer.encode_batch(
        [template.replace("{}", word) for word in words for template in sheet["templates"]]
    )
    longest = max(len(encoding.ids) for encoding in encodings)
    ids, mask = np.zeros((2, len(encodings), longest), np.int64)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    session = onnxruntime.InferenceSession(folder / "text.onnx", providers=["CPUExecutionProvider"])
    texts = np.asarray(session.run(None, {"ids": ids, "mask": mask})[0])
    means_KD = texts.reshape(len(words), len(sheet["templates"]), -1).mean(1)
    return means_KD / np.linalg.norm(means_KD, axis=1, keepdims=True)


def prepare(image: Image.Image, sheet: dict) -> np.ndarray:
    """The picture as the image tower takes it: short side as trained, both sides multiples of the stride."""
    how, stride = sheet["preprocessing"], sheet["stride"]
    scale = how["size"] / min(image.size)
    width, height = (max(stride, round(side * scale / stride) * stride) for side in image.size)
    resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0), np.float32)
    normalised = (resized / 255 - np.array(how["mean"], np.float32)) / np.array(how["std"], np.float32)
    return normalised.transpose(2, 0, 1)[None]


def enlarge(logits_hwK: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear interpolation to (H, W, K), ``align_corners=False``."""
    for axis, side in enumerate((height, width)):
        cells = logits_hwK.shape[axis]
        place = ((np.arange(side) + 0.5) * cells / side - 0.5).clip(0, cells - 1)
        lower = np.floor(place).astype(int).clip(max=max(cells - 2, 0))
        share = (place - lower).astype(np.float32).reshape([-1 if axis == other else 1 for other in range(3)])
        upper = np.minimum(lower + 1, cells - 1)
        logits_hwK = logits_hwK.take(lower, axis) * (1 - share) + logits_hwK.take(upper, axis) * share
    return logits_hwK


def segment(folder: Path, photo: str, labels: str) -> np.ndarray:
    """The number of the label of every pixel, (H, W)."""
    sheet = json.loads((folder / "onnx.json").read_text(encoding="utf-8"))
    groups = [label.split("|") for label in labels.split(",")]
    words_KD = embed([word.strip() for group in groups for word in group], folder, sheet)
    image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
    session = onnxruntime.InferenceSession(folder / "segmenter.onnx", providers=["CPUExecutionProvider"])
    logits_hwK = np.asarray(session.run(None, {"pixels": prepare(image, sheet), "labels": words_KD})[0])[0]
    wide_HWK = enlarge(logits_hwK, image.height, image.width)
    starts = np.cumsum([0, *(len(group) for group in groups[:-1])])
    return np.maximum.reduceat(wide_HWK, starts, axis=-1).argmax(-1)


if __name__ == "__main__":
    folder, photo, labels, out = sys.argv[1:]
    found = segment(Path(folder), photo, labels)
    Image.fromarray(found.astype(np.uint8)).save(out)
    for number, label in enumerate(labels.split(",")):
        print(f"{number} {label}: {(found == number).mean():.1%}")
