"""Choosing a limit: on which pictures, which one, and that they are not reported."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from clippy_core.evaluation.dense.calibrate import split
from clippy_core.evaluation.dense.dataset import DenseDataset, Example
from clippy_core.evaluation.options import Calibration
from clippy_core.evaluation.report import limits_table
from clippy_core.events import Noticed

COUNT, SIZE = 12, (6, 7)


@pytest.mark.parametrize(
    ("count", "share", "trial"),
    [(10, 0.2, [2, 7]), (2, 0.5, [1]), (2, 0.01, [1]), (3, 0.99, [0, 2]), (12, 0.25, [2, 6, 10]), (5, 0.6, [0, 2, 4])],
)
def test_pictures_to_choose_on_lie_all_over_the_list(count, share, trial):
    found, rest = split(count, share)
    assert found == trial
    assert sorted([*found, *rest]) == list(range(count))


def world(folder, *, sharp):
    """Masks, and a model that always says 1, as sure as ``sharp`` there where that is true."""
    from PIL import Image

    rng = np.random.default_rng(0)
    Image.new("RGB", (SIZE[1], SIZE[0])).save(folder / "a.png")
    names = [f"p{index:02}" for index in range(COUNT)]
    masks = {name: rng.integers(0, 2, SIZE).astype(np.uint8) for name in names}
    sure = {name: (masks[name] * sharp + rng.normal(0, 0.1, SIZE)).astype(np.float32) for name in names}
    examples = tuple(Example(name, folder / "a.png") for name in names)
    dataset = DenseDataset(
        "two2", "val", ("background", "it"), examples, lambda example: masks[example.name], background=0
    )
    return dataset, masks, sure


@pytest.mark.parametrize("kind", ["threshold", "margin", "softmax"])
def test_the_best_limit_on_the_trial_is_used_on_the_rest(fakes, tmp_path, kind):
    dataset, masks, sure = world(tmp_path, sharp=0.3)
    values = (0.4, 0.15, 0.05, 0.25, 0.9)
    predictor = fakes.Fake(lambda sample: np.ones(SIZE, int), certainty=lambda sample: sure[sample.example.name])
    heard = []
    wanted = Calibration(values, share=0.25, kind=kind)
    report = fakes.run(dataset, predictor, calibrate=wanted, sink=heard.append)
    trial = ["p02", "p06", "p10"]
    expected = {f"{value:g}": round(by_scikit_learn(masks, sure, trial, value), 6) for value in values}
    best = max(values, key=lambda value: expected[f"{value:g}"])
    found = report.protocol["calibration"]
    assert found["mIoU by limit"] == expected
    assert (found["limit"], found["pictures"]) == (f"{kind}={best:g}", 3)
    assert report.protocol["limit"] == f"{kind}={best!r}"
    reported = [name for name in masks if name not in trial]
    assert [row["picture"] for row in report.images] == reported
    assert report.metrics["pictures"] == len(reported) == report.protocol["pictures"]
    assert report.metrics["mIoU"] == pytest.approx(by_scikit_learn(masks, sure, reported, best), abs=1e-12)
    assert predictor.seen == [*trial, *reported]
    assert [event.text for event in heard if isinstance(event, Noticed)] == [
        "choosing the limit of the background on 3 pictures that are not reported",
        f"limit of the background: {kind}={best:g}, the best of 5 (mIoU {expected[f'{best:g}']:.4g})",
    ]
    table = limits_table(report)
    assert table is not None
    assert [row[0] for row in table.rows] == [f"{value:g}" for value in sorted(values)]
    assert [row[0] for row in table.rows if row[2] == "chosen"] == [f"{best:g}"]


def by_scikit_learn(masks, sure, names, value):
    truth = np.concatenate([masks[name].ravel() for name in names])
    told = np.concatenate([(sure[name] >= np.float32(value)).ravel() for name in names])
    return jaccard_score(truth, told.astype(int), average="macro")


def test_of_equal_limits_the_lowest(fakes, tmp_path):
    dataset, _, _ = world(tmp_path, sharp=0.3)
    predictor = fakes.Fake(lambda sample: np.ones(SIZE, int), certainty=lambda sample: np.full(SIZE, 0.5, np.float32))
    report = fakes.run(dataset, predictor, calibrate=Calibration((0.4, 0.2, 0.3), share=0.2))
    assert report.protocol["limit"] == "threshold=0.2"
