"""Model cards: Markdown with the metadata header that the Hugging Face hub reads. Imports no torch."""

import re
from typing import Any

from clippy_core.errors import CheckpointError
from clippy_core.model.config import ModelConfig

LICENCES = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0")
"""Licences of weights that the hub has a name for; others are ``other`` with a name of their own."""


def model_card(config: ModelConfig, origin: str = "") -> str:
    """The card of a model.

    Args:
        config: The model.
        origin: Where the weights come from, as Markdown.
    """
    licence = config.licence.lower()
    lines = [f"license: {licence}"] if licence in LICENCES else ["license: other", f"license_name: {_name(licence)}"]
    header = "\n".join(["library_name: clippy-vlm", *lines, "pipeline_tag: image-segmentation"])
    paragraphs = [f"# {config.name}", config.description, origin, f"Quality: {config.quality}"]
    return f"---\n{header}\n---\n" + "\n\n".join(filter(None, paragraphs)) + "\n"


def card_metadata(card: str, source: str) -> dict[str, Any]:
    """The metadata header of a card.

    Raises:
        CheckpointError: It has none, or one that is not a table in YAML; the message begins with ``source``.
    """
    import yaml

    header = re.match(r"---\r?\n(.*?)\r?\n---(\r?\n|$)", card, re.DOTALL)
    if header is None:
        raise CheckpointError(f"{source}: no metadata header between lines of ---, which the hub wants")
    try:
        metadata = yaml.safe_load(header[1])
    except yaml.YAMLError as error:
        raise CheckpointError(f"{source}: its metadata header is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{source}: its metadata header is a {type(metadata).__name__}, not a table")
    return metadata


def _name(licence: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", licence).strip("-") or "unknown"
