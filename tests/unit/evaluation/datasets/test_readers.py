"""Every benchmark's reader against the truth that was drawn, in every form in which its files come."""

import importlib
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

BENCHMARKS = ("voc", "context", "coco-stuff", "coco-object", "coco-panoptic", "ade20k", "cityscapes", "folder")
# Benchmark, how to make the miniature, and the name, number of classes, background of what is read.
FORMS = [
    ("voc", {"classes": 21}, ("voc21", 21, 0)),
    ("voc", {"classes": 20}, ("voc20", 20, None)),
    ("context", {"classes": 60}, ("context60", 60, 0)),
    ("context", {"classes": 59}, ("context59", 59, None)),
    ("context", {"classes": 60, "kind": "mat"}, ("context60", 60, 0)),
    ("context", {"classes": 59, "kind": "mat"}, ("context59", 59, None)),
    ("coco-stuff", {"kind": "raw"}, ("coco-stuff171", 171, None)),
    ("coco-stuff", {"kind": "train-ids"}, ("coco-stuff171", 171, None)),
    ("coco-object", {"kind": "instances"}, ("coco-object81", 81, 0)),
    ("coco-object", {"kind": "maps"}, ("coco-object81", 81, 0)),
    ("coco-object", {"kind": "both"}, ("coco-object81", 81, 0)),
    ("coco-object", {"kind": "train-ids"}, ("coco-object81", 81, 0)),
    ("coco-panoptic", {}, ("coco-panoptic133", 133, None)),
    ("ade20k", {}, ("ade20k150", 150, None)),
    ("ade20k", {"instances": False}, ("ade20k150", 150, None)),
    ("cityscapes", {"classes": 19}, ("cityscapes19", 19, None)),
    ("cityscapes", {"classes": 27}, ("cityscapes27", 27, None)),
    ("cityscapes", {"classes": 19, "kind": "train-ids"}, ("cityscapes19", 19, None)),
    ("folder", {"kind": "palette"}, ("folder", 6, 0)),
    ("folder", {"kind": "grey", "instances": False}, ("folder", 6, 0)),
    ("folder", {"kind": "16-bit", "labels": 200}, ("folder", 200, 0)),
]


def reader(benchmark):
    return importlib.import_module(f"clippy_core.evaluation.benchmarks.{benchmark.replace('-', '_')}").read


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(("benchmark", "form", "expected"), FORMS, ids=lambda value: str(value))
def test_masks_and_objects_are_those_that_were_drawn(miniatures, tmp_path, benchmark, form, expected, seed):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=seed, **form)
    # Examples go to other processes.
    dataset = pickle.loads(pickle.dumps(reader(benchmark)(truth.data, **truth.options)))
    assert (dataset.name, len(dataset.classes), dataset.background) == expected
    assert tuple(example.name for example in dataset.examples) == truth.names
    for example in dataset.examples:
        assert example.image == truth.images[example.name]
        mask_HW = dataset.read_mask(example)
        assert mask_HW.dtype == np.uint8
        assert np.array_equal(mask_HW, truth.masks[example.name])
        assert (dataset.read_objects is None) == (truth.objects is None)
        if dataset.read_objects is not None and truth.objects is not None:
            objects_HW = dataset.read_objects(example)
            assert objects_HW.dtype == np.int32
            assert np.array_equal(objects_HW, truth.objects[example.name])


def test_miniatures_have_what_makes_data_sets_hard(miniatures, tmp_path):
    """Else the tests above would show nothing: ignored pixels, background, several objects, crowds, turned pictures."""
    from PIL import Image

    for benchmark in BENCHMARKS:
        truth = miniatures.MAKERS[benchmark](tmp_path / benchmark, seed=0)
        masks = np.concatenate([mask_HW.ravel() for mask_HW in truth.masks.values()])
        assert len(np.unique(masks)) > 4
        # Background takes what would be ignored.
        assert (255 in masks) == (benchmark not in ("context", "coco-object"))
        if truth.objects is not None:
            found = {int(value) for objects_HW in truth.objects.values() for value in np.unique(objects_HW)}
            assert {0, 1, 2} <= found
            assert (-1 in found) == (benchmark != "ade20k")
        seen = []
        for path in truth.images.values():
            with Image.open(path) as image:
                seen.append((image.getexif().get(0x0112), image.mode))
        assert [orientation for orientation, _ in seen].count(6) == 1
        assert [mode for _, mode in seen].count("L") == 1


@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_notes_say_what_a_reader_of_figures_should_know(miniatures, tmp_path, benchmark):
    truth = miniatures.MAKERS[benchmark](tmp_path, seed=0)
    notes = reader(benchmark)(truth.data).notes
    official = {"coco-stuff": "5,000", "coco-object": "5,000", "coco-panoptic": "5,000", "ade20k": "2,000"}
    official["cityscapes"] = "500"
    counted = [note for note in notes if note.startswith("4 pictures; the official split has ")]
    assert [note.split()[-1] for note in counted] == ([official[benchmark]] if benchmark in official else [])


def test_defaults_are_the_protocols_that_papers_report(miniatures, tmp_path):
    found = {}
    for benchmark in BENCHMARKS:
        truth = miniatures.MAKERS[benchmark](tmp_path / benchmark, seed=0)
        dataset = reader(benchmark)(truth.data)
        found[benchmark] = (dataset.name, dataset.split)
    assert found == {
        "voc": ("voc21", "val"),
        "context": ("context60", "val"),
        "coco-stuff": ("coco-stuff171", "val"),
        "coco-object": ("coco-object81", "val"),
        "coco-panoptic": ("coco-panoptic133", "val"),
        "ade20k": ("ade20k150", "val"),
        "cityscapes": ("cityscapes19", "val"),
        "folder": ("folder", "all"),
    }


def test_only_what_a_reader_needs_is_imported(clippy_environment):
    modules = [f"clippy_core.evaluation.benchmarks.{benchmark.replace('-', '_')}" for benchmark in BENCHMARKS]
    code = (
        f"import importlib, json, sys\nfor name in {modules}: importlib.import_module(name)\n"
        "print(json.dumps([name for name in ('torch', 'cv2', 'pycocotools', 'scipy', 'PIL') if name in sys.modules]))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=clippy_environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == []
