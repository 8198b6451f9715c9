"""Fetching a published model once, and keeping it in our own format."""

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from clippy_core.errors import UsageError
from clippy_core.model.cache import locked, model_folder, remove_stale_parts
from clippy_core.model.card import model_card
from clippy_core.model.download import download
from clippy_core.model.presets import Preset, PublishedWeights, get_preset

Progress = Callable[[int, int | None], None]


def pull(name: str, *, progress: Progress = lambda arrived, total: None) -> Path:
    """Download, convert and store a model; returns its directory. A model that is here already is not fetched again.

    The checkpoint is kept beside the directory until the conversion has succeeded, so that an interruption costs
    nothing, and is deleted then.

    Args:
        name: A registered name.
        progress: Hears of bytes arrived and the length, if the server tells it.

    Raises:
        UsageError: An unknown name, or a model that nobody publishes.
        DataError: The download or the conversion failed; one line that says what to do.
    """
    preset = get_preset(name)
    if preset.directory is not None:
        return preset.directory
    if preset.weights is None:
        raise UsageError(f"model {name!r} has no published weights to fetch; {preset.source}")
    folder = model_folder(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_parts(folder.parent)
    with locked(folder):
        if not (folder / "manifest.json").is_file():  # another process may have brought it meanwhile
            _fetch(name, preset, preset.weights, folder, progress)
    return folder


def _fetch(name: str, preset: Preset, weights: PublishedWeights, folder: Path, progress: Progress) -> None:
    checkpoint = folder.with_name(f"{folder.name}.download") / Path(urlsplit(weights.url).path).name
    fetched = download(weights.url, checkpoint, sha256=weights.sha256, progress=progress)
    from clippy_core.model.convert import load_checkpoint
    from clippy_core.model.weights import save_directory

    loaded = load_checkpoint(name, checkpoint)
    origin = f"Converted from {weights.url} (SHA-256 {fetched})."
    card = model_card(preset.config, origin)
    save_directory(folder, loaded.model, loaded.tokenizer.path.read_bytes(), card)
    checkpoint.unlink()
