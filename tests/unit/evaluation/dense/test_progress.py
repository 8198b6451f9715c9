"""Files of unfinished runs: what is read, what is refused. Runs that are killed: ``tests/dist``."""

import numpy as np
import pytest

from clippy_core.evaluation.dense.cache import write_arrays
from clippy_core.evaluation.dense.dataset import DenseDataset
from clippy_core.evaluation.dense.progress import Progress
from clippy_core.evaluation.dense.tally import Tally
from clippy_core.evaluation.share import Share, spread

PICTURES, CLASSES = 5, 3


def tally(*places):
    found = Tally(CLASSES, PICTURES)
    for place in places:
        truth_HW = np.full((2, 2), place % CLASSES)
        found.add(place, labels=(truth_HW, np.zeros((2, 2))), segments=(truth_HW, truth_HW), seconds=place / 8)
    return found


def begin(folder, heard=None, *, key="key", share=None, **options):
    notify = (lambda text: None) if heard is None else heard.append
    return Progress(folder, key, share or Share(), lambda: Tally(CLASSES, PICTURES), notify, **options)


def test_what_was_saved_is_added_up(tmp_path):
    first = begin(tmp_path)
    assert not first.done_N.any()
    first.save(tally(0))
    first.save(tally(0, 3))
    second = begin(tmp_path)
    assert second.done_N.tolist() == [1, 0, 0, 1, 0]
    second.save(tally(4))
    third = begin(tmp_path)
    assert third.done_N.tolist() == [1, 0, 0, 1, 1]
    third.earlier.absorb(tally(1, 2).arrays())
    for name, array in tally(*range(PICTURES)).arrays().items():
        np.testing.assert_array_equal(third.earlier.arrays()[name], array)
    third.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_counted_nothing_leaves_no_folder(tmp_path):
    begin(tmp_path / "out", overwrite=True).remove()
    assert not begin(tmp_path / "out").done_N.any()
    assert list(tmp_path.iterdir()) == []


def test_only_the_first_process_has_earlier_counts(tmp_path):
    begin(tmp_path).save(tally(2))
    other = begin(tmp_path, share=Share(1, 2))
    assert not other.earlier.done_N.any()
    assert other.path.name.endswith("-1.npz")


def damaged(path):
    path.write_bytes(path.read_bytes()[:-200])


def twice(path):
    path.with_name("key-7-0.npz").write_bytes(path.read_bytes())


def misshapen(path):
    write_arrays(path, {name: array[:1] for name, array in tally(0).arrays().items()})


def incomplete(path):
    np.savez(path, done=np.ones(PICTURES, np.int64))


@pytest.mark.parametrize(
    ("harm", "reason", "left"),
    [(damaged, "damaged", 0), (twice, "counted twice", 1), (misshapen, "not int64", 0), (incomplete, "confusion", 0)],
)
def test_a_file_that_cannot_be_used_is_named_and_its_pictures_counted_again(tmp_path, harm, reason, left):
    first = begin(tmp_path)
    first.save(tally(1))
    harm(first.path)
    heard = []
    again = begin(tmp_path, heard)
    assert again.done_N.sum() == left
    assert len(heard) == 1
    assert reason in heard[0]
    assert "looked at again" in heard[0]
    assert len(list((tmp_path / "progress").glob("*.npz"))) == left


def test_overwrite_and_others(tmp_path):
    begin(tmp_path).save(tally(1))
    heard = []
    other = begin(tmp_path, heard, key="other")
    assert not other.done_N.any()
    assert "1 files are of a run with another model, protocol or list of pictures" in heard[0]
    assert begin(tmp_path).done_N.sum() == 1
    anew = begin(tmp_path, overwrite=True)
    assert not anew.done_N.any()
    other.save(tally(0))
    anew.remove()
    assert [path.name for path in (tmp_path / "progress").iterdir()] == ["other-1-0.npz"]


def test_a_run_that_ends_in_an_error_goes_on_later(miniatures, fakes, tmp_path):
    from clippy_core.evaluation.benchmarks import voc

    dataset = voc.read(miniatures.MAKERS["voc"](tmp_path / "data", seed=1).data)
    expected = fakes.run(dataset, fakes.Fake(fakes.noise(21), fakes.noise(4)), metric="both")
    broken = DenseDataset(**{**vars(dataset), "read_mask": fails_on(dataset, dataset.examples[2])})
    with pytest.raises(OSError, match="gone"):
        fakes.run(broken, fakes.Fake(fakes.noise(21), fakes.noise(4)), metric="both", out=tmp_path / "out")
    rest = fakes.Fake(fakes.noise(21), fakes.noise(4))
    found = fakes.run(dataset, rest, metric="both", out=tmp_path / "out")
    assert rest.seen == [example.name for example in dataset.examples[2:]]
    assert found.metrics == expected.metrics
    assert found.confusion == expected.confusion
    assert found.timing["pictures"] == 2


def fails_on(dataset, wrong):
    def read_mask(example):
        if example == wrong:
            raise OSError("gone")
        return dataset.read_mask(example)

    return read_mask


def test_a_picture_is_counted_once():
    found = tally(1)
    with pytest.raises(AssertionError, match="picture 1 is counted twice"):
        found.add(1)


@pytest.mark.parametrize(
    ("count", "limit", "expected"), [(5, None, [0, 1, 2, 3, 4]), (5, 9, [0, 1, 2, 3, 4]), (10, 3, [0, 3, 6])]
)
def test_spread(count, limit, expected):
    assert list(spread(range(count), limit)) == expected
