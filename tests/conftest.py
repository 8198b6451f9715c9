"""What every test starts from: a plain environment, and the command line in this process or as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings

import clippy_core

# Before torch is imported: several test runs on one machine must not wait for each other by spinning.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# The user's cache is none of the tests' business.
os.environ.setdefault("CLIPPY_LABEL_CACHE", "0")
# A shell that starts a test run in the background lets it ignore Ctrl-C, and so would every process that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# How long an example takes says more about the machine than about the code.
settings.register_profile("any machine", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
# Wishes of whoever runs the tests that would change what is printed.
WISHES = ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PYTHONIOENCODING")


class Finished(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in WISHES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def clippy_command() -> list[str]:
    """The command as a process of its own, the code under test and no other."""
    return [sys.executable, "-m", "clippy_cli"]


@pytest.fixture(scope="session")
def clippy_environment() -> dict[str, str]:
    """The environment for :func:`clippy_command`: finds this code from any folder."""
    environment = {name: value for name, value in os.environ.items() if name not in WISHES}
    paths = [str(Path(clippy_core.__file__).parents[1]), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@pytest.fixture
def process(clippy_command: list[str], clippy_environment: dict[str, str], tmp_path: Path) -> Callable[..., Finished]:
    """Run the command as a real process in ``tmp_path``: ``process("plugins", env={…}, stdin=b"…")``."""

    def run(*args: object, env: dict[str, str] | None = None, stdin: bytes = b"", **more: Any) -> Finished:
        done = subprocess.run(
            [*clippy_command, *map(str, args)],
            **({"capture_output": True, "cwd": tmp_path, "timeout": 120} | more),
            input=stdin,
            env=clippy_environment | (env or {}),
            check=False,
        )
        return Finished(done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode())

    return run


@pytest.fixture(scope="session")
def kept_models() -> dict[Any, Any]:
    """Models that an earlier test loaded."""
    return {}


@pytest.fixture
def clippy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kept_models: dict[Any, Any]
) -> Callable[..., Finished]:
    """Run the command in this process, where a model is loaded once and then kept."""
    from clippy_cli.main import run
    from clippy_core.model.presets import find
    from clippy_core.segmentation import segmenter

    load = segmenter.load

    def load_once(model: Any, **placement: str) -> Any:
        key = (find(model), *sorted(placement.items()))
        if key not in kept_models:
            kept_models[key] = load(model, **placement)
        return kept_models[key]

    def finish(*args: object) -> Finished:
        capsys.readouterr()
        code = run([str(arg) for arg in args])
        return Finished(code, *capsys.readouterr())

    monkeypatch.setattr(segmenter, "load", load_once)
    return finish


@pytest.fixture(scope="session")
def draw() -> Callable[..., Path]:
    """Write a small picture of a meadow under a sky: ``draw(path, size=(120, 80))``, in the format of the suffix."""

    def picture(path: Path, size: tuple[int, int] = (120, 80)) -> Path:
        from PIL import Image, ImageDraw

        width, height = size
        image = Image.new("RGB", size, (120, 175, 235))
        pencil = ImageDraw.Draw(image)
        pencil.rectangle((0, height // 2, width, height), fill=(60, 150, 50))
        pencil.ellipse((width // 3, height // 3, width // 2, height - 8), fill=(150, 95, 45))
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
        return path

    return picture


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory to train from: a ViT of two blocks and a BERT of one, without dropout; 100,000 parameters."""
    import json

    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    from clippy_core.model.config import ModelConfig, TextConfig, VisionConfig
    from clippy_core.model.dual_encoder import DualEncoder
    from clippy_core.model.weights import save_directory
    from clippy_core.shapes import CLASSES

    words = [word for name in CLASSES for word in name.split()]
    words += [
        "a",
        "an",
        "the",
        "of",
        "on",
        "under",
        "over",
        "in",
        "and",
        "photo",
        "picture",
        "two",
        "three",
        "red",
        "green",
        "blue",
    ]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(["[PAD]", "[UNK]", *words]))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    vision = VisionConfig(
        "vit_tiny_patch16_224",
        size=32,
        projection=24,
        trunk_args={"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    )
    bert = {
        "model_type": "bert",
        "vocab_size": len(vocabulary),
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 64,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }
    config = ModelConfig("tiny", vision, TextConfig(bert, projection=24, max_tokens=24), licence="Apache-2.0")
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    model = DualEncoder(config)
    torch.random.set_rng_state(state)
    directory = tmp_path_factory.mktemp("tiny") / "model"
    save_directory(directory, model, json.dumps(json.loads(tokenizer.to_str())).encode(), "# tiny\n")
    return directory
