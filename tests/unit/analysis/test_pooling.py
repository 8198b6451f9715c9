"""Pooling: winners, parts of cosines and spreads worked out by hand, and vectors that are the model's own."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import entropy

from clippy_core.analysis.look import Look, look
from clippy_core.analysis.pooling.report import win_curve
from clippy_core.analysis.pooling.run import (
    PoolingOptions,
    analyse_pooling,
    describe,
    focus,
    locations_for_half,
    overlap,
    pool,
    spread,
    winners,
    won_by_top,
)
from clippy_core.analysis.report import write_report
from clippy_core.analysis.words import Words
from clippy_core.images import read_picture
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.weights import LoadedModel
from clippy_core.prompts import parse_labels
from clippy_core.segmentation.inputs import Input
from clippy_core.segmentation.segmenter import Segmenter

PATCHES = np.array([[3, 0, 1, 0], [1, 2, 1, 0], [0, 2, -1, 0]], np.float32)
"""Three locations, four channels: the first is won by location 0, the second shared by 1 and 2, the third by 0 and 1,
the last is the same everywhere."""
WORDS = Words(("a", "b"), np.array([[0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], np.float32), np.array([0, 1]))


def random_look(seed, prefix=2, locations=12, channels=30):
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(prefix + locations, channels)).astype(np.float32)
    return Look(tokens[prefix:], tokens[:prefix], (3, locations // 3))


def random_words(seed, channels=30):
    vectors = np.random.default_rng(seed).normal(size=(4, channels))
    return Words(
        ("a", "b", "c"),
        (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32),
        np.array([0, 2, 3]),
    )


def test_winners_by_hand():
    assert winners(PATCHES.astype(float)).T.tolist() == [[1, 0, 0], [0, 0.5, 0.5], [0.5, 0.5, 0], [1 / 3] * 3]
    found = pool(Look(PATCHES, np.zeros((0, 4), np.float32), (1, 3)), WORDS, with_prefix=False)
    assert (found.channels, found.dead, found.prefix_wins) == (3, 1, 0)
    assert found.wins_P.tolist() == [1.5, 1, 0.5]
    length = np.sqrt(9 + 4 + 1)
    assert found.vectors["max"] == pytest.approx(np.array([3, 2, 1, 0]) / length)
    assert found.cosines["max"] == pytest.approx(np.array([0.6 * 3 + 0.8 * 2, 1]) / length)
    assert found.from_max_KP == pytest.approx(np.array([[1.8, 0.8, 0.8], [0.5, 0.5, 0]]) / length)
    mean = np.array([4, 4, 1, 0]) / 3
    assert found.cosines["mean"] == pytest.approx(
        np.array([mean @ [0.6, 0.8, 0, 0], mean[2]]) / np.linalg.norm(mean), rel=1e-6
    )
    want = np.array([[1.8, 0.6 + 1.6, 1.6], [1, 1, -1]]) / 3 / np.linalg.norm(mean)
    assert found.from_mean_KP == pytest.approx(want, rel=1e-6)
    assert "cls" not in found.vectors


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("with_prefix", [False, True])
def test_a_cosine_is_the_sum_of_its_parts(seed, with_prefix):
    seen, words = random_look(seed), random_words(seed)
    found = pool(seen, words, with_prefix=with_prefix)
    tokens = np.concatenate([seen.prefix_ND, seen.patches_PD]) if with_prefix else seen.patches_PD
    for vector, name in ((tokens.max(0), "max"), (tokens.mean(0), "mean"), (seen.prefix_ND[0], "cls")):
        vector = vector / np.linalg.norm(vector)
        cosine = words.words_WD @ vector
        assert found.cosines[name] == pytest.approx(np.array([max(cosine[:2]), cosine[2], cosine[3]]), abs=1e-6)
        location_cosines = seen.patches_PD @ vector / np.linalg.norm(seen.patches_PD, axis=1)
        assert found.likeness[name] == pytest.approx(location_cosines, abs=1e-6)
    assert found.wins_P.sum() + found.prefix_wins == pytest.approx(30)
    parts = {"max": found.from_max_KP.sum(1), "mean": found.from_mean_KP.sum(1)}
    if not with_prefix:
        assert found.prefix_wins == 0
        assert all(parts[name] == pytest.approx(found.cosines[name], abs=1e-6) for name in parts)
        return
    assert found.prefix_wins > 0
    about = describe(found, words.names, 10.0)
    for place, name in enumerate(words.names):
        rest = found.cosines["max"][place] - parts["max"][place]
        assert about["labels"][name]["from prefix tokens"] == pytest.approx(rest)
    assert about["winners"]["share of prefix tokens"] == pytest.approx(found.prefix_wins / 30)


@pytest.mark.parametrize("kind", ["max", "mean", "cls"])
@pytest.mark.parametrize("pool_prefix", [False, True])
def test_vectors_are_the_model_s_own(vit, picture_file, kind, pool_prefix):
    vision = replace(vit.config.vision, pool=kind, pool_prefix=pool_prefix)
    model = DualEncoder(replace(vit.config, vision=vision))
    model.load_state_dict(vit.model.state_dict())
    segmenter = Segmenter(LoadedModel(model.eval(), vit.tokenizer), vit.placement)
    pixels_HW3 = read_picture(picture_file("a.png")).pixels_HW3
    found = pool(look(segmenter, pixels_HW3), None, with_prefix=pool_prefix)
    pooled = segmenter.encode_batch([pixels_HW3]).pooled_BD[0]
    assert found.vectors[kind] == pytest.approx(pooled.numpy(), abs=1e-5)


def test_the_share_of_the_top_locations():
    wins = np.array([1, 7, 0, 2])
    assert won_by_top(wins, 10, 0.25) == 0.7
    assert won_by_top(wins, 10, 0.01) == 0.7
    assert won_by_top(wins, 10, 0.5) == 0.9
    curve = win_curve(wins, 10)
    assert curve[[0, 25, 50, 75, 100]] == pytest.approx([0, 0.7, 0.9, 1, 1])
    assert (np.diff(curve) >= 0).all()


@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_spread_is_the_softmax_s_perplexity(scale):
    values = np.random.default_rng(0).uniform(-0.2, 0.6, 50)
    chance = torch.softmax(scale * torch.from_numpy(values), 0).numpy()
    assert spread(values, scale) == pytest.approx(np.exp(entropy(chance)) / 50)
    assert spread(np.full(50, 0.3), scale) == pytest.approx(1)


def test_spread_over_one_location():
    assert spread(np.array([1.0, *[-1.0] * 9]), 100.0) == pytest.approx(0.1)


def test_focus_and_overlap():
    a, b = focus(np.array([5, 1, 4, 0, 3.0]), 0.4), focus(np.array([5, 4, 1, 0, 0.0]), 0.4)
    assert a.tolist() == [True, False, True, False, False]
    assert overlap(a, b) == pytest.approx(1 / 3)
    assert overlap(a, a) == 1
    assert focus(np.arange(3.0), 0.01).sum() == 1


@pytest.mark.parametrize(
    ("added", "want"), [([4, 1, 1, 1, 1], 1), ([3, 3, 3, 3], 2), ([-1, -2], 0), ([0, 0], 0), ([2, -9, 2, 2], 2)]
)
def test_how_few_locations_hold_half(added, want):
    assert locations_for_half(np.array(added, float)) == want


def test_the_report_has_what_was_found(vit, picture_file, tmp_path):
    paths = [picture_file(f"{seed}.png", seed) for seed in range(2)]
    inputs = [Input(str(path), Path(path.stem)) for path in paths]
    options = PoolingOptions(labels=parse_labels("dog|cat,boat"))
    report = analyse_pooling(vit, inputs, options, tmp_path / "out")
    files = write_report(report, tmp_path / "out")
    names = {file.relative_to(tmp_path / "out").as_posix() for file in files}
    for kind in ("picture", "winners", "max", "mean", "cls", "max-01-dog", "mean-02-boat"):
        assert f"1.{kind}.png" in names
    document = json.loads((tmp_path / "out/pooling.json").read_text())
    for one, path in zip(document["numbers"]["pictures"], paths, strict=True):
        pixels_HW3 = read_picture(path).pixels_HW3
        pooled_D = vit.encode_batch([pixels_HW3]).pooled_BD[0]
        dog, cat, boat = vit.embed_words(["dog", "cat", "boat"], vit.config.templates) @ pooled_D
        assert one["labels"]["dog"]["cosines"]["max"] == pytest.approx(max(float(dog), float(cat)), abs=1e-5)
        assert one["labels"]["boat"]["cosines"]["max"] == pytest.approx(float(boat), abs=1e-5)
        assert one["labels"]["boat"]["from prefix tokens"] == 0
        assert one["locations"] == 20
        assert one["winners"]["share of channels won by the top locations"]["25 %"] > 0.25
        assert one["pooled"]["max"]["overlap with max"] == 1
    assert report.main == "pooling.overview"


def test_a_picture_may_be_called_as_the_analysis(vit, picture_file, tmp_path):
    inputs = [Input(str(picture_file("pooling.png")), Path("pooling"))]
    write_report(analyse_pooling(vit, inputs, PoolingOptions(), tmp_path / "out"), tmp_path / "out")
    assert {"pooling.curve.png", "pooling.winners.png"} <= {path.name for path in (tmp_path / "out").iterdir()}


def test_a_bad_picture_is_left_out(vit, picture_file, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"")
    inputs = [Input(str(tmp_path / "bad.png"), Path("bad")), Input(str(picture_file("a.png")), Path("a"))]
    report = analyse_pooling(vit, inputs, PoolingOptions(), tmp_path / "out")
    assert [item["picture"] for item in report.numbers["left out"]] == [str(tmp_path / "bad.png")]
    assert "labels" not in report.numbers["pictures"][0]
