"""The model as a directory of its own, in full precision."""

from pathlib import Path

from clippy_core.export.publish import CONFIG_MARK
from clippy_core.files import refuse_foreign
from clippy_core.model.card import model_card
from clippy_core.model.weights import LoadedModel, save_directory


def export_directory(loaded: LoadedModel, out: Path) -> list[Path]:
    """Write ``config.json``, ``model.safetensors`` (float32), ``tokenizer.json``, a model card and the manifest.

    Raises:
        DataError: There is a ``config.json`` or a ``README.md`` of something else.
        OSError: The folder cannot be written.
    """
    refuse_foreign(out / "config.json", [CONFIG_MARK])
    refuse_foreign(out / "README.md", [b"library_name: clippy-vlm"])
    card = model_card(loaded.model.config)
    return save_directory(out, loaded.model, loaded.tokenizer.path.read_bytes(), card)
