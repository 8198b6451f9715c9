"""Exported files against PyTorch on photographs: per part, precision and size of the picture.

    python benchmarks/export_parity.py                   export clippy-lite four times, measure, write export_parity.csv
    python benchmarks/export_parity.py --keep DIR        keep the exports there, and take those that are there already

Photographs are the twelve of ``docs/``. Precisions: ``fp32``, ``fp16``, ``int8`` (ranges measured anew for every
input) and ``int8-calibrated`` (measured beforehand on every other photograph, which is then left out of its figures).

    vision      features of all locations: max_abs, least and mean cosine with PyTorch's
    text        embeddings of the words in the model's templates, the same
    segmenter   cosines with the words, and agreement: share of pixels with the same label once enlarged
    labelmap    agreement of its label map with the one of ``Segmenter.label``

``cpu_ms`` is processor time of one call on one thread, the least of three, averaged over photographs, and
``torch_cpu_ms`` the same for PyTorch in fp32; unlike wall time it changes little with other work on the machine.
"""

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import torch
from surroundings import surroundings

from clippy_core.export.onnx import export_onnx
from clippy_core.export.options import PARTS, ExportOptions
from clippy_core.images import read_picture
from clippy_core.kernels import label_map
from clippy_core.model.preprocess import to_input, working_size
from clippy_core.model.presets import find
from clippy_core.model.weights import LoadedModel, load_directory

HERE = Path(__file__).resolve()
DOCS = HERE.parents[1] / "docs"
PHOTOGRAPHS = sorted([*(DOCS / "photographs").glob("*.jpg"), *(DOCS / "gallery").glob("*.jpg")])
WORDS = ["sky", "grass", "tree", "water", "building", "person", "cow", "bird", "cup", "table", "mountain", "sand"]
SIZES = (128, 256, 384)
PRECISIONS = ("fp32", "fp16", "int8", "int8-calibrated")


class Photograph(NamedTuple):
    """A picture as the model takes it, its size in pixels, and what PyTorch says about it."""

    pixels_13HW: np.ndarray
    size: tuple[int, int]
    patches_hwD: np.ndarray
    torch_ms: float


def main() -> None:
    """Export, measure, write the CSV."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="clippy-lite", help="name or directory (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for the exports (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=HERE.with_suffix(".csv"), help="CSV file (default: %(default)s)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_directory(find(arguments.model))
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        for precision in PRECISIONS:
            export(loaded, find(arguments.model), folder, precision)
        # As clippy itself lays out the weights of convolutions, which are then faster.
        loaded.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        rows = list(measure(loaded, folder))
    common = surroundings("cpu", "onnx", "onnxruntime", "onnxscript")
    with open(arguments.out, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "threads", *common])
        writer.writeheader()
        writer.writerows({**row, "threads": 1, **common} for row in rows)


def export(loaded: LoadedModel, source: Path, folder: Path, precision: str) -> None:
    """Write the files of a precision below ``folder`` unless they are there."""
    if (folder / precision / "onnx.json").is_file():
        return
    print("exporting", precision, file=sys.stderr)
    options: dict[str, Any] = {"parts": PARTS, "source": source}
    if precision != "fp32":
        options["quantize"] = precision.partition("-")[0]
    if precision != "int8-calibrated":
        export_onnx(loaded, folder / precision, ExportOptions(**options))
        return
    with tempfile.TemporaryDirectory() as pictures:
        for path in PHOTOGRAPHS[::2]:
            (Path(pictures) / path.name).symlink_to(path)
        export_onnx(loaded, folder / precision, ExportOptions(**options, calibrate=Path(pictures)))


def measure(loaded: LoadedModel, folder: Path) -> Iterator[dict[str, Any]]:
    """One row a part, precision and size."""
    ids_KL, mask_KL = loaded.tokenizer(
        [template.replace("{}", word) for word in WORDS for template in loaded.model.config.templates]
    )
    texts_TD, text_ms = timed(lambda: _texts(loaded, ids_KL, mask_KL))
    means_KD = texts_TD.reshape(len(WORDS), -1, texts_TD.shape[1]).mean(1)
    words_KD = means_KD / np.linalg.norm(means_KD, axis=1, keepdims=True)
    for precision in PRECISIONS:
        files = {part: session(folder / precision / f"{part}.onnx") for part in PARTS}
        sizes = {part: (folder / precision / f"{part}.onnx").stat().st_size for part in PARTS}
        found_TD, cpu_ms = timed(lambda files=files: files["text"].run(None, {"ids": ids_KL, "mask": mask_KL})[0])
        yield row("text", precision, "", len(texts_TD), sizes["text"], cpu_ms, text_ms, *distance(texts_TD, found_TD))
    for size in SIZES:
        photographs = [look(loaded, path, size) for path in PHOTOGRAPHS]
        for precision in PRECISIONS:
            print("measuring", precision, size, file=sys.stderr)
            files = {part: session(folder / precision / f"{part}.onnx") for part in PARTS}
            seen = photographs[1::2] if precision == "int8-calibrated" else photographs
            for part in ("vision", "segmenter", "labelmap"):
                bytes_ = (folder / precision / f"{part}.onnx").stat().st_size
                yield compare(part, precision, size, seen, words_KD, files[part], bytes_)


def compare(
    part: str,
    precision: str,
    size: int,
    photographs: list[Photograph],
    words_KD: np.ndarray,
    file: onnxruntime.InferenceSession,
    size_in_bytes: int,
) -> dict[str, Any]:
    """One row: a part at one size over all photographs."""
    expected_all, found_all, agreements, cpu_ms = [], [], [], []
    for photo in photographs:
        inputs: dict[str, np.ndarray] = {"pixels": photo.pixels_13HW}
        if part != "vision":
            inputs["labels"] = words_KD
        if part == "labelmap":
            inputs["size"] = np.array(photo.size)
        found, milliseconds = timed(lambda inputs=inputs: np.asarray(file.run(None, inputs)[0])[0])
        cpu_ms.append(milliseconds)
        logits_hwK = photo.patches_hwD @ words_KD.T
        if part == "labelmap":
            agreements.append((found == label_map(logits_hwK, photo.size).labels_HW).mean())
            continue
        expected = photo.patches_hwD if part == "vision" else logits_hwK
        expected_all.append(expected.reshape(-1, expected.shape[-1]))
        found_all.append(found.reshape(-1, found.shape[-1]))
        if part == "segmenter":
            found_HW, expected_HW = (label_map(values, photo.size).labels_HW for values in (found, expected))
            agreements.append((np.asarray(found_HW) == np.asarray(expected_HW)).mean())
    figures = distance(np.concatenate(expected_all), np.concatenate(found_all)) if expected_all else ("", "", "")
    if part == "segmenter":
        figures = (figures[0], "", "")
    torch_ms = float(np.mean([photo.torch_ms for photo in photographs]))
    agreement = f"{np.mean(agreements):.6f}" if agreements else ""
    return row(
        part, precision, size, len(photographs), size_in_bytes, float(np.mean(cpu_ms)), torch_ms, *figures, agreement
    )


def row(
    part: str, precision: str, size: Any, inputs: int, size_in_bytes: int, cpu_ms: float, torch_ms: float, *figures: Any
) -> dict[str, Any]:
    """The columns of a measurement."""
    names = ("max_abs", "min_cosine", "mean_cosine", "agreement")
    values = dict(zip(names, (*figures, "", "", "", "")[:4], strict=True))
    return {
        "part": part,
        "precision": precision,
        "size": size,
        "inputs": inputs,
        "megabytes": f"{size_in_bytes / 1e6:.1f}",
        **values,
        "cpu_ms": f"{cpu_ms:.1f}",
        "torch_cpu_ms": f"{torch_ms:.1f}",
    }


def distance(expected_ND: np.ndarray, found_ND: np.ndarray) -> tuple[str, str, str]:
    """Largest difference, least and mean cosine."""
    lengths = np.linalg.norm(expected_ND, axis=1) * np.linalg.norm(found_ND, axis=1)
    cosines = (expected_ND * found_ND).sum(1) / lengths.clip(1e-12)
    return f"{np.abs(expected_ND - found_ND).max():.2e}", f"{cosines.min():.6f}", f"{cosines.mean():.6f}"


@torch.inference_mode()
def look(loaded: LoadedModel, path: Path, size: int) -> Photograph:
    """A photograph at one size, through PyTorch."""
    vision, cell = loaded.model.config.vision, loaded.model.vision.stride
    pixels_HW3 = read_picture(path).pixels_HW3
    pixels = to_input(pixels_HW3, working_size(pixels_HW3.shape[:2], size, cell), vision)[None]
    seen, torch_ms = timed(lambda: loaded.model.encode_image(torch.from_numpy(pixels)))
    height, width = pixels_HW3.shape[:2]
    return Photograph(pixels, (height, width), seen.patches_BPD[0].view(*seen.grid, -1).numpy(), torch_ms)


@torch.inference_mode()
def _texts(loaded: LoadedModel, ids_KL: np.ndarray, mask_KL: np.ndarray) -> np.ndarray:
    return loaded.model.encode_text(torch.from_numpy(ids_KL), torch.from_numpy(mask_KL)).numpy()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and the least processor time of three, in milliseconds."""
    times = []
    for _ in range(3):
        start = time.process_time()
        found = call()
        times.append(1e3 * (time.process_time() - start))
    return found, min(times)


def session(path: Path) -> onnxruntime.InferenceSession:
    """A file on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
