"""The model as a directory of its own, in full precision."""

from pathlib import Path

from clippy_core.model.weights import LoadedModel, save_directory


def export_directory(loaded: LoadedModel, out: Path) -> list[Path]:
    """Write ``config.json``, ``model.safetensors`` (float32), ``tokenizer.json``, a model card and the manifest."""
    config = loaded.model.config
    card = (
        f"---\nlibrary_name: clippy-vlm\nlicense: {config.licence.lower()}\npipeline_tag: image-segmentation\n---\n"
        f"# {config.name}\n\n{config.description}\n\nQuality: {config.quality}\n"
    )
    return save_directory(out, loaded.model, loaded.tokenizer.path.read_bytes(), card)
