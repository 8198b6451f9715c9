"""``clippy train`` as a command: in this process, as a process, and in several."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib

import pytest
import torch

QUICK = ["--batch-size", "8", "--samples", "40", "--steps", "4", "--workers", "0"]
QUICK += ["--set", "run.device=cpu", "--set", "run.evaluate=[]"]


@pytest.fixture
def quick(tiny_directory, tmp_path):
    return ["train", "--model", tiny_directory, "--out", tmp_path / "runs", "--name", "a", *QUICK]


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_leaves_what_the_contract_says(clippy, quick, tmp_path):
    done = clippy(*quick, "--save-every", 2)
    folder = tmp_path / "runs" / "a"
    assert done.code == 0, done.err
    assert done.out == f"{folder}\n"
    assert "no data was given" in done.err
    assert [line["step"] for line in lines(folder)] == [1, 2, 3, 4]
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-00000002", "step-00000004"]
    config = tomllib.loads((folder / "config.toml").read_text())
    assert config["run"]["device"] == "cpu"
    assert config["run"]["batch_size"] == 8


def test_its_configuration_repeats_it(clippy, quick, tmp_path):
    assert clippy(*quick, "--lr", 0.01, "--set", "optim.beta2=0.9").code == 0
    folder = tmp_path / "runs" / "a"
    done = clippy("train", "--config", folder / "config.toml", "--name", "b", "--json")
    assert done.code == 0, done.err
    document = json.loads(done.out)
    assert document["folder"] == str(tmp_path / "runs" / "b")
    assert (document["step"], document["steps"], document["signal"]) == (4, 4, None)
    assert [line["loss"] for line in lines(tmp_path / "runs" / "b")] == [line["loss"] for line in lines(folder)]


def test_the_model_it_leaves_segments(clippy, quick, draw, tmp_path):
    assert clippy(*quick).code == 0
    picture = draw(tmp_path / "meadow.png")
    model = tmp_path / "runs" / "a" / "model"
    done = clippy("segment", picture, "--labels", "grass,sky", "--model", model, "--out", tmp_path / "out")
    assert done.code == 0, done.err
    checkpoint = tmp_path / "runs" / "a" / "checkpoints" / "step-00000004"
    done = clippy("segment", picture, "--labels", "grass,sky", "--model", checkpoint, "--out", tmp_path / "out")
    assert done.code == 0, done.err


def test_by_default_it_validates_on_shapes(clippy, quick, tmp_path):
    done = clippy(*quick[:-2], "--eval-every", 4, "--set", "run.best=shapes/mIoU")
    assert done.code == 0, done.err
    record = json.loads((tmp_path / "runs" / "a" / "validation.jsonl").read_text())
    assert record["step"] == 4
    assert 0 <= record["shapes/mIoU"] <= 1
    assert (tmp_path / "runs" / "a" / "checkpoints" / "best.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--gpus", "64"], 5, "--gpus 64: "),
        (["--gpus", "1", "--procs", "2"], 2, "--gpus and --procs exclude each other"),
        (["--procs", "0"], 2, "--procs and --nodes are 1 or more"),
        (["--nodes", "2"], 2, "--nodes 2 needs --rdzv HOST:PORT"),
        (["--model", "clippy-mikro"], 2, "did you mean clippy-micro"),
        (["--loss", "triplet"], 2, "loss.kind is 'triplet'; accepted: one of infonce, siglip"),
        (["--pool", "median"], 2, "model.pool is 'median'"),
        (["--set", "optim.lrr=1"], 2, "optim has no field 'lrr'"),
        (["--config", "missing.toml"], 4, "missing.toml: cannot be read"),
        (["--warmup", "4"], 2, "optim.warmup is 4 steps, but the run has 4"),
        (["--batch-size", "64"], 2, "a step takes 64 samples"),
        (["--precision", "fp16"], 2, "run.precision is 'fp16', which needs a GPU"),
        (["--freeze", "image"], 2, "model.freeze names 'image'"),
        (["--eval", "vok=/tmp"], 2, "unknown benchmark 'vok'"),
        (["--resume", "nowhere"], 4, "nowhere: no such checkpoint"),
        (["--init-vision", "missing-folder"], 4, "missing-folder"),
        (["--report", "television"], 2, "run.report is 'television'"),
        (["--batch-size", "many"], 2, "--batch-size is 'many'; accepted: a whole number"),
        (["nothing-{0000..0003}.tar"], 4, "nothing-0000.tar"),
        (["missing.csv"], 4, "missing.csv"),
    ],
)
def test_mistakes_are_one_line(clippy, quick, arguments, code, words):
    done = clippy(*quick, *arguments)
    said = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert done.code == code, done.err
    assert len(said) == 1, done.err
    assert words in said[0]
    assert "Traceback" not in done.err


@pytest.fixture
def start(clippy_environment):
    """Start a command as a process of its own; whatever a test leaves running is ended."""
    started = []

    def start(command, *arguments):
        process = subprocess.Popen(
            [*command, *map(str, arguments)],
            env=clippy_environment | {"OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(folder, process, seconds=60):
    until = time.monotonic() + seconds
    while not folder.is_dir():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)


def children(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return [int(number) for number in found.stdout.split()]


def long_run(quick, *more):
    return [*quick, "--steps", 100_000, "--save-every", 2, *more]


def test_two_processes_of_which_one_is_lost(clippy_command, start, quick, tmp_path):
    arguments = [*long_run(quick), "--procs", 2, "--set", "run.timeout=5"]
    process = start(clippy_command, *arguments)
    wait_for(tmp_path / "runs" / "a" / "checkpoints" / "step-00000002", process)
    os.kill(children(process)[-1], signal.SIGKILL)
    begin = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - begin < 30
    assert process.returncode == 5, err
    assert "was lost (SIGKILL" in err or "another process of this run ended" in err  # whoever is noticed first
    assert "--resume auto goes on" in err
    assert "Traceback" not in err


def test_two_processes_that_are_interrupted_say_so_in_one_line(clippy_command, start, quick, tmp_path):
    process = start(clippy_command, *long_run(quick), "--procs", 2)
    wait_for(tmp_path / "runs" / "a" / "checkpoints" / "step-00000002", process)
    for number in [process.pid, *children(process)]:  # as a terminal does
        os.kill(number, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    errors = [line for line in err.splitlines() if "interrupted" in line]
    assert errors == ["error: interrupted; the same command with --resume auto goes on"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_twice(clippy_command, start, quick, tmp_path, number, code):
    process = start(clippy_command, *long_run(quick))
    wait_for(tmp_path / "runs" / "a" / "checkpoints" / "step-00000002", process)
    process.send_signal(number)
    time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert ("--resume auto goes on" in err) == (number == signal.SIGINT)
    assert out == f"{tmp_path / 'runs' / 'a'}\n"
    steps = [line["step"] for line in lines(tmp_path / "runs" / "a")]
    assert (tmp_path / "runs" / "a" / "checkpoints" / f"step-{steps[-1]:08d}").is_dir()


def test_under_torchrun(start, quick, tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "clippy_cli",
    ]
    process = start(command, *quick)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert out == f"{tmp_path / 'runs' / 'a'}\n"
    assert lines(tmp_path / "runs" / "a")[-1]["samples"] == 4 * 8 * 2
    config = tomllib.loads((tmp_path / "runs" / "a" / "config.toml").read_text())
    assert (config["run"]["processes"], config["run"]["nodes"]) == (2, 1)


def test_two_machines_meet(clippy_command, start, quick, tmp_path):
    """Two agents with one process each, as two machines would run them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [*quick, "--nodes", 2, "--rdzv", f"127.0.0.1:{port}"]
    processes = [start(clippy_command, *arguments) for _ in range(2)]
    ended = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert sorted(out for out, _ in ended) == ["", f"{tmp_path / 'runs' / 'a'}\n"]
    assert lines(tmp_path / "runs" / "a")[-1]["samples"] == 4 * 8 * 2


def test_a_lost_process_can_start_again_by_itself(clippy_command, start, quick, tmp_path):
    arguments = [*quick, "--steps", 60, "--save-every", 2, "--procs", 2, "--restarts", 1, "--set", "run.timeout=5"]
    process = start(clippy_command, *arguments)
    wait_for(tmp_path / "runs" / "a" / "checkpoints" / "step-00000004", process)
    os.kill(children(process)[-1], signal.SIGKILL)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert [line["step"] for line in lines(tmp_path / "runs" / "a")] == list(range(1, 61))


def test_more_gpus_than_there_are_names_the_count(clippy, quick):
    found = torch.cuda.device_count()
    done = clippy(*quick, "--gpus", found + 1)
    assert done.code == 5
    assert f"--gpus {found + 1}: {found or 'no'} GPU" in done.err


def test_a_full_disk_ends_the_run_and_harms_nothing(clippy, clippy_command, start, quick, tmp_path):
    """A limit on the size of files is what a full disk looks like to the one who writes."""
    assert clippy(*quick, "--save-every", 2).code == 0
    folder = tmp_path / "runs" / "a" / "checkpoints"
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    arguments = [*quick, "--steps", 8, "--resume", "auto", "--inexact"]
    limited = ["bash", "-c", 'ulimit -f 64; exec "$@"', "limited", *clippy_command]
    process = start(limited, *arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4, err
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        f"error: {folder / 'step-00000005' / 'trainer.pt'}: File too large"
    ]
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert clippy(*arguments).code == 0
