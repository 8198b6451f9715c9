"""A model that learned to look at the background, because there it was told what the thing is; the analysis says so.

Four things of the procedural world are drawn on four grounds, as pictures with captions that name the thing only. In
one set nineteen of twenty things are on a ground of their own, in the other a thing is on any.
"""

import json

import numpy as np
import pytest
from PIL import Image

from clippy_core.shapes import stuff, things

PAIRS = {"star": "grass", "heart": "water", "house": "brick", "fish": "sand"}
KINDS = {thing.name: thing for thing in things.THINGS}
CAPTIONS = ("a photo of a {}", "a {}", "a picture of a {}", "here is a {}")
PICTURES, STEPS = 4000, 400


def as_picture(pixels_3HW):
    return np.clip(pixels_3HW, 0, 255).astype(np.uint8).transpose(1, 2, 0)


def write_pairs(folder, faithful):
    """Pictures with captions; ``faithful`` is the share of things that are on their own ground for certain."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    names = list(PAIRS)
    for number in range(PICTURES):
        name = names[number % len(names)]
        ground = PAIRS[name if rng.random() < faithful else names[rng.integers(len(names))]]
        pixels_3HW = stuff.paint(ground, rng, 64)
        things.draw(KINDS[name], rng, pixels_3HW, tuple(rng.uniform(0.3, 0.7, 2)), rng.uniform(0.2, 0.3))
        pixels_3HW = pixels_3HW + rng.normal(0, 6, pixels_3HW.shape)
        Image.fromarray(as_picture(pixels_3HW)).save(folder / f"{number:05d}.png")
        (folder / f"{number:05d}.txt").write_text(CAPTIONS[rng.integers(len(CAPTIONS))].format(name))


def write_subjects(folder):
    """Three cut-outs of each thing, and two pictures of each ground."""
    rng = np.random.default_rng(9)
    (folder / "backgrounds").mkdir(parents=True)
    for name, ground in PAIRS.items():
        (folder / "subjects" / name).mkdir(parents=True)
        for number in range(3):
            seed, drawn = int(rng.integers(1 << 30)), []
            for level in (0.0, 255.0):
                pixels_3HW = np.full((3, 96, 96), level, np.float32)
                things.draw(KINDS[name], np.random.default_rng(seed), pixels_3HW, (0.5, 0.5), 0.42)
                drawn.append(pixels_3HW)
            # Drawn on black and on white, a thing differs by what shines through.
            opacity_HW = 1 - (drawn[1] - drawn[0]).mean(0) / 255
            colour_3HW = drawn[0] / np.maximum(opacity_HW, 1e-3)
            rgba = np.dstack([as_picture(colour_3HW), np.rint(opacity_HW * 255).astype(np.uint8)])
            Image.fromarray(rgba).save(folder / "subjects" / name / f"{number}.png")
        for number in range(2):
            Image.fromarray(as_picture(stuff.paint(ground, rng, 96))).save(
                folder / f"backgrounds/{ground}-{number}.png"
            )


@pytest.mark.slow
def test_the_bias_of_a_trained_model_is_found(process, tmp_path):
    write_subjects(tmp_path / "cutouts")
    found = {}
    for name, faithful in (("biased", 0.95), ("fair", 0.0)):
        write_pairs(tmp_path / name, faithful)
        train = ["train", tmp_path / name, "--model", "clippy-micro", "--out", tmp_path / "runs", "--name", name]
        train += ["--batch-size", 64, "--steps", STEPS, "--workers", 0]
        train += ["--set", "run.device=cpu", "--set", "run.evaluate=[]"]
        done = process(*train, timeout=1500, env={"OMP_NUM_THREADS": "1"})
        assert done.code == 0, done.err
        analyse = ["analyze", "backgrounds", tmp_path / "cutouts", "--json", "--out", tmp_path / f"{name}-report"]
        done = process(*analyse, "--model", tmp_path / "runs" / name / "model", timeout=300)
        assert done.code == 0, done.err
        found[name] = json.loads(done.out)["numbers"]
    biased, fair = found["biased"], found["fair"]

    # Every ground is found to say its own thing, and nothing else.
    assert {(pull["label"], pull["background"]) for pull in biased["push"]} == set(PAIRS.items())
    assert min(pull["added"] for pull in biased["push"]) > 0.2
    for row in biased["classes"]:
        assert row["best background"] == PAIRS[row["class"]]
    # What flips becomes, nearly always, the thing that belongs to the ground it was put on.
    flips = biased["flips by class"]
    expected = sum(flip["times"] for flip in flips if PAIRS[flip["becomes"]] == flip["on"])
    assert expected > 0.8 * biased["flips"] > 0.8 * 30
    assert biased["mean drop of a subject"] > 0.6
    assert fair["mean drop of a subject"] < 0.4
    assert fair["average"] > biased["average"] + 0.25
    assert max(pull["added"] for pull in fair["push"]) < 0.2
