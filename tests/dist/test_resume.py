"""A run that was killed and goes on is, to the bit, the run that was not."""

import json
import random

import pytest
import torch

from clippy_core.model.weights import load_directory

EXACT = ("step", "loss", "lr", "logit_scale", "grad_norm", "samples", "epoch")
RUN = ["run.steps=24", "run.batch_size=8", "data.samples=80", "run.save_every=3", "optim.lr=0.01", "optim.warmup=2"]


def history(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line.get(name) for name in EXACT} for line in lines]


def weights(folder):
    return load_directory(folder / "model").model.state_dict()


def samples(tmp_path, processes, begin=0):
    """The last that was seen of every step, by every process; ``begin`` leaves out what earlier runs wrote."""
    seen = []
    for rank in range(processes):
        lines = (tmp_path / f"samples-{rank}.jsonl").read_text().splitlines()
        seen.append(dict(json.loads(line) for line in lines[begin:]))
    return seen


def same_weights(one, other):
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def check_killed_run(attempts, tmp_path, processes, kills, more=()):
    settings = [*RUN, *more]
    plain = {"set": [*settings, "run.name=plain"], "processes": processes}
    first = {"set": [*settings, "run.name=killed"], "processes": processes}
    resumed = {**first, "resume": "auto"}
    codes = attempts(plain, *({**(resumed if n else first), "kill": kill} for n, kill in enumerate(kills)), resumed)
    assert codes[0] == [0] * processes
    assert codes[-1] == [0] * processes
    for code, (victim, _step, _when) in zip(codes[1:-1], kills, strict=True):
        assert code[victim] == -9
    assert history(tmp_path / "killed") == history(tmp_path / "plain")
    same_weights(weights(tmp_path / "killed"), weights(tmp_path / "plain"))
    for rank in range(processes):
        lines = (tmp_path / f"samples-{rank}.jsonl").read_text().splitlines()
        plain_run = dict(json.loads(line) for line in lines[:24])
        assert dict(json.loads(line) for line in lines[24:]) == plain_run
    return tmp_path / "killed"


def test_one_process_killed_mid_epoch_and_while_saving(attempts, tmp_path):
    folder = check_killed_run(attempts, tmp_path, 1, [(0, 5, "step"), (0, 9, "save"), (0, 14, "step")])
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == ["step-00000018", "step-00000021", "step-00000024"]


def test_two_processes_of_which_one_is_killed(attempts, tmp_path):
    check_killed_run(attempts, tmp_path, 2, [(1, 7, "step"), (0, 12, "step")], ["run.batch_size=4", "run.timeout=5"])


def test_with_everything_that_has_a_state(attempts, tmp_path):
    more = [
        "model.ema=0.9", "loss.kind=siglip", "model.patch_dropout=0.5", "run.accumulate=2", "run.batch_size=4",
        "optim.kind=lamb", "data.crop=0.5", "data.flip=true",
    ]  # fmt: skip
    check_killed_run(attempts, tmp_path, 1, [(0, 8, "step")], more)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_ten_random_kills(attempts, tmp_path, processes):
    draw = random.Random(processes)
    kills, reached = [], 0
    for _ in range(10):
        step = draw.randint(reached + 1, min(reached + 5, 23))
        kills.append((draw.randrange(processes), step, draw.choice(["step", "save"]) if step % 3 == 0 else "step"))
        reached = (step - (kills[-1][2] == "save")) // 3 * 3
    check_killed_run(attempts, tmp_path, processes, kills, [f"run.batch_size={8 // processes}", "run.timeout=5"])


def test_asked_to_stop_it_finishes_the_step_and_saves(attempts, tmp_path):
    plain = {"set": [*RUN, "run.name=plain"]}
    stopped = {"set": [*RUN, "run.name=stopped", "run.save_every=100"], "kill": [0, 10, "SIGTERM"]}
    codes = attempts(
        plain,
        stopped,
        {**stopped, "kill": [0, 12, "SIGINT"], "resume": "auto"},
        {**stopped, "resume": "auto", "kill": [0, 99, "step"]},
    )
    assert codes == [[0], [143], [130], [0]]
    assert history(tmp_path / "stopped") == history(tmp_path / "plain")
    same_weights(weights(tmp_path / "stopped"), weights(tmp_path / "plain"))


def test_one_of_two_asked_to_stop_stops_both(attempts, tmp_path):
    plan = {"set": [*RUN, "run.name=a", "run.batch_size=4"], "processes": 2, "kill": [1, 4, "SIGTERM"]}
    assert attempts(plan) == [[143, 143]]
    assert (tmp_path / "a" / "checkpoints" / "step-00000005").is_dir()


def test_other_settings_are_refused_unless_inexact(attempts, tmp_path):
    first = {"set": [*RUN, "run.name=a", "run.steps=24"], "kill": [0, 4, "step"]}
    codes = attempts(
        first,
        {"set": [*RUN, "run.name=a", "optim.lr=0.02"], "resume": "auto"},
        {"set": [*RUN, "run.name=a", "run.batch_size=4"], "processes": 2, "resume": "auto"},
        {"set": [*RUN, "run.name=a"]},
        {"set": [*RUN, "run.name=a", "run.batch_size=4"], "processes": 2, "resume": "auto", "inexact": True},
    )
    assert codes == [[-9], [40], [40, 40], [40], [0, 0]]
    said = (tmp_path / "stderr.txt").read_text()
    assert "optim.lr was 0.01 and is 0.02; going on would not repeat the run exactly; --inexact goes on" in said
    assert "processes was 1 and is 2" in said
    assert "has checkpoints; --resume auto goes on, --name begins another run" in said


def test_another_number_of_workers_is_the_same_run(attempts, tmp_path):
    settings = [*RUN, "run.steps=12", "run.save_every=3"]
    codes = attempts(
        {"set": [*settings, "run.name=plain"]},
        {"set": [*settings, "run.name=a"], "kill": [0, 7, "step"]},
        {"set": [*settings, "run.name=a", "data.workers=2"], "resume": "auto"},
    )
    assert codes == [[0], [-9], [0]]
    assert history(tmp_path / "a") == history(tmp_path / "plain")
    same_weights(weights(tmp_path / "a"), weights(tmp_path / "plain"))


@pytest.mark.parametrize("what", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_every_process_before_the_step(attempts, tmp_path, what):
    settings = [*RUN, "run.name=a", "run.batch_size=4", "run.save_every=1"]
    codes = attempts({"set": settings, "processes": 2, "poison": [1, 6, what]})
    assert codes == [[40, 40]]
    said = (tmp_path / "stderr.txt").read_text()
    assert "at step 6, from process 1: shapes/" in said
    assert "weights are those of step 5" in said
    assert [line["step"] for line in history(tmp_path / "a")] == [1, 2, 3, 4, 5]


def test_such_a_step_can_be_left_out(attempts, tmp_path):
    settings = [*RUN, "run.name=a", "run.batch_size=4", "run.nan_policy=skip"]
    assert attempts({"set": settings, "processes": 2, "poison": [1, 6, "nan"]}) == [[0, 0]]
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 25))
    assert lines[5]["loss"] is None
    assert [line["skipped"] for line in lines[4:7]] == [0, 1, 1]
