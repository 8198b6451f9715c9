"""What is read depends on the seed and the step, and on nothing else."""

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch

from clippy_core.errors import DataError, UsageError
from clippy_core.model.presets import find
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.config import DataConfig
from clippy_core.training.data import Batch, Sample, loader
from clippy_core.training.data.loader import Loader
from clippy_core.training.data.order import ATTEMPTS, generator_at, permutation, spares


class Numbers:
    """Samples that show their number; those in ``bad`` cannot be used."""

    def __init__(self, length, bad=(), dies_at=None):
        self.length, self.bad, self.dies_at = length, frozenset(bad), dies_at

    def __len__(self):
        return self.length

    def order(self, epoch, seed):
        return permutation(self.length, epoch, seed)

    def read(self, number):
        if number in self.bad:
            raise DataError(f"n/{number}: no good")
        if number == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), np.uint8)
        return Sample(f"n/{number}", pixels, f"number {number}\nthe {'long ' * (number % 7)}one")

    def counts(self):
        return {"samples": self.length}

    def problems(self):
        return []


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer(find("clippy-lite") / "tokenizer.json", 16)


@pytest.fixture
def steps(tokenizer):
    """The first ``count`` steps after ``step``, with everything else at will."""

    def read(step=0, count=3, *, source=None, workers=0, batch=4, accumulate=1, rank=0, world=1, seed=5, **config):
        made = Loader(
            source or Numbers(50),
            tokenizer,
            DataConfig(workers=workers, **({"crop": 0.5, "flip": True} | config)),
            size=16,
            batch_size=batch,
            accumulate=accumulate,
            rank=rank,
            world=world,
            seed=seed,
        )
        batches = made.batches(step)
        try:
            return list(islice(batches, count))
        finally:
            batches.close()

    return read


def flat(steps):
    """Keys, pixels and texts of steps, sample by sample."""
    return [
        (key, pixels.numpy().tobytes(), tuple(ids[mask.bool()].tolist()))
        for parts in steps
        for batch in parts
        for key, pixels, ids, mask in zip(batch.keys, batch.pixels_B3HW, batch.ids_BL, batch.mask_BL, strict=True)
    ]


def test_a_batch_is_what_the_loop_expects(steps):
    (parts,) = steps(count=1, accumulate=3)
    assert len(parts) == 3
    batch = parts[0]
    assert isinstance(batch, Batch)
    assert batch.pixels_B3HW.shape == (4, 3, 16, 16)
    assert batch.pixels_B3HW.dtype == torch.uint8
    assert batch.pixels_B3HW.is_contiguous(memory_format=torch.channels_last)
    assert batch.ids_BL.dtype == batch.mask_BL.dtype == torch.int64
    assert batch.ids_BL.shape == batch.mask_BL.shape
    assert len(batch.keys) == 4
    assert batch.faults == ()


@pytest.mark.parametrize(("batch", "accumulate", "world"), [(4, 3, 1), (4, 1, 3), (3, 2, 2), (1, 12, 1), (2, 1, 6)])
def test_processes_and_parts_share_one_order(steps, batch, accumulate, world):
    whole = flat(steps(2, 5, batch=12))
    each = [steps(2, 5, batch=batch, accumulate=accumulate, rank=rank, world=world) for rank in range(world)]
    together = []
    for step in range(5):
        for part in range(accumulate):
            for rank in range(world):
                together += flat([[each[rank][step][part]]])
    assert together == whole


def test_every_step_can_be_the_first(steps):
    """50 samples in steps of 12: four steps an epoch, two samples dropped."""
    whole = [flat([parts]) for parts in steps(0, 11, batch=6, accumulate=2)]
    for step in (1, 3, 4, 6, 9):
        assert [flat([parts]) for parts in steps(step, 2, batch=6, accumulate=2)] == whole[step : step + 2]


def test_an_epoch_has_each_sample_once_and_drops_the_rest(steps):
    epochs = [[key for key, *_ in flat(steps(4 * epoch, 4, batch=12))] for epoch in range(3)]
    assert all(len(keys) == len(set(keys)) == 48 for keys in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_crops_and_captions_differ_from_epoch_to_epoch(steps):
    source = Numbers(4)
    seen = {}
    for key, pixels, ids in flat(steps(0, 12, source=source)):
        seen.setdefault(key, set()).add((pixels, ids))
    assert all(len(different) > 8 for different in seen.values())


def test_another_seed_is_another_order(steps):
    assert flat(steps(seed=1)) != flat(steps(seed=2))
    assert flat(steps(seed=1)) == flat(steps(seed=1))


def test_workers_change_nothing(steps):
    alone = steps(5, 6, batch=6, accumulate=2, source=Numbers(50, bad=range(0, 50, 9)))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    shared = steps(5, 6, batch=6, accumulate=2, source=Numbers(50, bad=range(0, 50, 9)), workers=3)
    assert flat(shared) == flat(alone)
    faults = [[batch.faults for batch in parts] for parts in alone]
    assert [[batch.faults for batch in parts] for parts in shared] == faults
    assert any(lines for parts in faults for lines in parts)
    assert torch.equal(torch.get_rng_state(), before)
    assert active_children() == []


def test_a_large_batch_is_put_together_from_chunks(steps, monkeypatch):
    whole = steps(1, 3, batch=10)
    monkeypatch.setattr(loader, "CHUNK", 4)
    pieces = steps(1, 3, batch=10)
    for one, other in zip(whole, pieces, strict=True):
        assert torch.equal(one[0].pixels_B3HW, other[0].pixels_B3HW)
        assert torch.equal(one[0].ids_BL, other[0].ids_BL)
        assert torch.equal(one[0].mask_BL, other[0].mask_BL)
        assert one[0].keys == other[0].keys
        assert other[0].pixels_B3HW.is_contiguous(memory_format=torch.channels_last)


def test_what_cannot_be_used_is_replaced_and_said(steps):
    bad = range(0, 50, 3)
    (parts,) = steps(count=1, batch=50, source=Numbers(50, bad=bad))
    keys = [int(key[2:]) for key in parts[0].keys]
    assert not set(keys) & set(bad)
    order = list(permutation(50, 0, 5))
    for position, key in enumerate(keys):
        if order[position] not in bad:
            assert order[position] == key
    first = [fault for fault in parts[0].faults if "replaced by" in fault]
    assert len(first) == len(bad)
    assert all(fault.startswith("n/") and "no good" in fault for fault in parts[0].faults)


def test_strict_stops_at_the_first(steps):
    with pytest.raises(DataError, match=r"^n/\d+: no good$"):
        steps(count=12, source=Numbers(50, bad=[7]), strict=True)


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_samples_is_an_end(steps, workers):
    with pytest.raises(DataError, match=r"^9 samples in a row cannot be used; the last: n/\d+: no good$"):
        steps(source=Numbers(50, bad=range(50)), workers=workers)


def test_an_epoch_that_fills_no_step_is_refused(tokenizer):
    made = Loader(Numbers(50), tokenizer, DataConfig(), size=16, batch_size=9, accumulate=2, rank=0, world=3, seed=0)
    with pytest.raises(UsageError, match="a step takes 54 samples"):
        _ = made.steps_per_epoch
    with pytest.raises(UsageError, match="only 50"):
        next(made.batches(0))


def test_a_worker_that_is_killed_ends_in_one_line(steps):
    began = time.monotonic()
    with pytest.raises(DataError, match=r"^a process that reads training data \(\d+\) ended by signal 9; .*--workers"):
        steps(count=50, source=Numbers(50, dies_at=int(permutation(50, 0, 5)[30])), workers=2)
    assert time.monotonic() - began < 20
    assert active_children() == []


def test_workers_do_not_hear_signals(tokenizer):
    made = Loader(
        Numbers(50), tokenizer, DataConfig(workers=2), size=16, batch_size=4, accumulate=1, rank=0, world=1, seed=0
    )
    batches = made.batches(0)
    next(batches)
    for process in active_children():
        os.kill(process.pid, signal.SIGTERM)
        os.kill(process.pid, signal.SIGINT)
    for _ in range(20):
        next(batches)
    batches.close()
    assert active_children() == []


def test_the_source_of_shards_goes_to_workers_as_it_is(write_shard, tmp_path, steps):
    from clippy_core.training.data.sources import open_source

    for shard in range(3):
        write_shard(tmp_path / f"{shard}.tar", [(f"{n}", f"picture {shard} {n}") for n in range(8)])
    source = open_source(DataConfig(sources=(f"{tmp_path}/*.tar",)))
    source.read(3)
    assert len(pickle.dumps(source)) < 2000
    assert flat(steps(1, 8, source=source, workers=2)) == flat(steps(1, 8, source=source))


def test_spares_are_decided_by_position_and_lie_anywhere():
    positions = np.arange(1000)
    found = spares(positions, 10_000, 3, 4)
    assert found.shape == (1000, ATTEMPTS)
    assert found.min() >= 0
    assert found.max() < 10_000
    assert np.array_equal(spares(positions[500:], 10_000, 3, 4), found[500:])
    assert not np.array_equal(spares(positions, 10_000, 4, 4), found)
    assert np.unique(found).size > 5000
    assert np.histogram(found, 10, (0, 10_000))[0].min() > 700


def test_generators_of_neighbours_differ():
    drawn = {
        float(generator_at(seed, epoch, position).random())
        for seed in (0, 1)
        for epoch in (0, 1)
        for position in range(9)
    }
    assert len(drawn) == 36
    assert generator_at(1, 2, 3).random() == generator_at(1, 2, 3).random()


TRAINING = """
import os, signal, sys
from multiprocessing import active_children
from clippy_core.model.presets import find
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.training.config import DataConfig
from clippy_core.training.data.loader import Loader
from clippy_core.training.data.sources import open_source
config = DataConfig(sources=(sys.argv[1],), workers=2)
tokenizer = Tokenizer(find("clippy-lite") / "tokenizer.json", 16)
loader = Loader(
    open_source(config), tokenizer, config, size=16, batch_size=2, accumulate=1, rank=0, world=1, seed=0
)
batches = loader.batches(0)
next(batches)
print(*[process.pid for process in active_children()], flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
raise ValueError("a mistake")
"""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks processes up in /proc")
@pytest.mark.parametrize(
    ("how", "code"), [("killed", -signal.SIGKILL), pytest.param("mistaken", 1, marks=pytest.mark.slow)]
)
def test_workers_end_with_the_training_process(write_shard, tmp_path, clippy_environment, how, code):
    write_shard(tmp_path / "a.tar", [(f"{n}", f"picture {n}") for n in range(8)])
    done = subprocess.run(
        [sys.executable, "-c", TRAINING, str(tmp_path / "a.tar"), how],
        env=clippy_environment | {"CLIPPY_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == code, done.stderr
    processes = [Path(f"/proc/{process}") for process in done.stdout.split()]
    assert len(processes) == 2
    until = time.monotonic() + 20
    while any(process.exists() for process in processes) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(process.exists() for process in processes)


class Boxed(Numbers):
    """Every third sample speaks of a part of its picture."""

    def read(self, number):
        return replace(super().read(number), box=(0.25, 0.0, 0.75, 0.5) if number % 3 == 0 else None)


def test_boxes_travel_with_their_samples(tokenizer, monkeypatch):
    monkeypatch.setattr(loader, "CHUNK", 2)
    config = DataConfig(crop=1, workers=0)
    made = Loader(Boxed(12), tokenizer, config, size=16, batch_size=6, accumulate=1, rank=0, world=1, seed=0)
    (batch,) = next(made.batches(0))
    expected = [[0.25, 0, 0.75, 0.5] if int(key.split("/")[1]) % 3 == 0 else [0, 0, 1, 1] for key in batch.keys]
    assert batch.boxes_B4 is not None
    assert batch.boxes_B4.tolist() == expected
    assert [0, 0, 1, 1] in expected
    assert [0.25, 0, 0.75, 0.5] in expected
