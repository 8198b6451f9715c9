"""Waterbirds in its official layout: groups, the worst of them, and the drop."""

import numpy as np
import pytest

from clippy_core.errors import DataError, UsageError
from clippy_core.evaluation.benchmarks import BenchmarkOptions, waterbirds
from clippy_core.evaluation.vocabulary.templates import PAPER

BIRDS = ("landbird", "waterbird")


def test_groups_by_hand(sets, tmp_path):
    """Test pictures are 4, 3, 2, 5 of landbird on land, on water, waterbird on land, on water, in this order."""
    sets.waterbirds(tmp_path)
    wrong = {3, 5, 6, 7, 13}
    kinds = [0] * 7 + [1] * 7
    model = sets.Model(lambda number: sets.direction(BIRDS[kinds[number] ^ (number in wrong)]))
    found = waterbirds.run(model, tmp_path, BenchmarkOptions())
    assert found.metrics == pytest.approx(
        {
            "landbird on land": 3 / 4,
            "landbird on water": 1 / 3,
            "waterbird on land": 1 / 2,
            "waterbird on water": 4 / 5,
            "drop": 3 / 10,
            "worst group": 1 / 3,
            "average": 9 / 14,
            # Train pictures are 8, 1, 2, 5.
            "adjusted average": (8 * 3 / 4 + 1 / 3 + 2 / 2 + 5 * 4 / 5) / 16,
            "pictures": 14,
            "pictures left out": 0,
        }
    )
    assert found.rows[1] == {"group": "landbird on water", "right": 1, "pictures": 3, "accuracy": 1 / 3}
    assert (model.prompts, set(model.sizes), found.protocol["size"]) == ({PAPER}, {(448, 448)}, 448)
    assert found.images[3] == {
        "picture": found.images[3]["picture"],
        "class": "landbird",
        "answer": "waterbird",
        "place": 2,
        "why": "",
    }
    assert found.protocol["words"] == {
        "landbird": ("landbird", "land bird"),
        "waterbird": ("waterbird", "water bird"),
    }


def test_perfect_and_constant(sets, tmp_path):
    miniature = sets.waterbirds(tmp_path)
    see = lambda number: sets.direction(BIRDS[miniature.truth[number]])  # noqa: E731
    perfect = waterbirds.run(sets.Model(see), tmp_path, BenchmarkOptions()).metrics
    assert (perfect["worst group"], perfect["average"], perfect["drop"]) == (1, 1, 0)
    constant = waterbirds.run(sets.Model(lambda number: sets.direction("water bird")), tmp_path, BenchmarkOptions())
    assert constant.metrics["average"] == pytest.approx(np.mean(miniature.truth))
    assert [constant.metrics[f"{bird} on {place}"] for bird in BIRDS for place in ("land", "water")] == [0, 0, 1, 1]


def test_a_model_that_looks_at_the_background(sets, tmp_path):
    miniature = sets.waterbirds(tmp_path)
    see = lambda number: sets.direction(BIRDS[miniature.places[number]])  # noqa: E731
    metrics = waterbirds.run(sets.Model(see), tmp_path, BenchmarkOptions()).metrics
    assert (metrics["drop"], metrics["worst group"], metrics["average"]) == (1, 0, 9 / 14)


def test_two_processes_are_one(sets, tmp_path, together):
    miniature = sets.waterbirds(tmp_path, (40, 30, 20, 50))
    see = lambda number: sets.direction(number) + 0.15 * sets.direction(BIRDS[miniature.truth[number]])  # noqa: E731
    alone = waterbirds.run(sets.Model(see), tmp_path, BenchmarkOptions())
    found = together(2, lambda share: waterbirds.run(sets.Model(see), tmp_path, BenchmarkOptions(share=share)))
    assert all((one.metrics, one.rows) == (alone.metrics, alone.rows) for one in found)
    assert 0.5 < alone.metrics["average"] < 1


def test_other_words_and_splits(sets, tmp_path):
    sets.waterbirds(tmp_path)
    root = tmp_path / "waterbird_complete95_forest2water2"
    (root / "labels.txt").write_text("songbird\nseabird|gull\n")
    birds = waterbirds.read(root)
    assert [label.words for label in birds.dataset.labels] == [("songbird",), ("seabird", "gull")]
    assert birds.train_share == (0.5, 0.0625, 0.125, 0.3125)
    (root / "labels.txt").write_text("songbird\n")
    with pytest.raises(UsageError, match="1 labels; accepted: two"):
        waterbirds.read(root)
    with pytest.raises(UsageError, match="accepted: test, val, train"):
        waterbirds.read(root, split="all")


def test_an_empty_group_is_not_a_number(sets, tmp_path):
    miniature = sets.waterbirds(tmp_path, (2, 0, 1, 3))
    see = lambda number: sets.direction(BIRDS[miniature.truth[number]])  # noqa: E731
    found = waterbirds.run(sets.Model(see), tmp_path, BenchmarkOptions())
    assert np.isnan(found.metrics["landbird on water"])
    assert (found.metrics["worst group"], found.rows[1]["pictures"]) == (1, 0)
    assert np.isnan(found.metrics["adjusted average"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("img_filename", "file", "line 2: no img_filename; accepted: columns img_filename, y, split, place"),
        (",0,2,0,", ",2,2,0,", "line 2: y is '2'; accepted: 0, 1"),
        (",2,0,/b", ",3,0,/b", "line 2: split is '3'; accepted: 0, 1, 2"),
        (",2,", ",0,", r"no picture of the split test \(2\)"),
    ],
)
def test_metadata_that_cannot_be_used(sets, tmp_path, old, new, message):
    sets.waterbirds(tmp_path)
    path = tmp_path / "waterbird_complete95_forest2water2" / "metadata.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=message):
        waterbirds.read(tmp_path)


def test_another_folder(sets, tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"not laid out as Waterbirds; .*missing: metadata\.csv; found: images/"):
        waterbirds.read(tmp_path)
    miniature = sets.waterbirds(tmp_path)
    for path in miniature.paths:
        path.unlink()
    with pytest.raises(DataError, match=r"missing: 016\.Painted_Bunting/\S* and all others of the split test"):
        waterbirds.read(tmp_path)
