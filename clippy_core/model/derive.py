"""Configurations read off pretrained models, so that a preset can be written for any of them."""

from pathlib import Path
from typing import Any

import timm

from clippy_core.errors import CheckpointError, ConfigError, UsageError
from clippy_core.model.config import TextConfig, VisionConfig
from clippy_core.model.directory import CONFIG, read_json
from clippy_core.model.layouts import Layout, open_layout, sentence_modules

MOST_TOKENS = 77
"""Captions are short; encoders that take more are cut to this."""
NOT_THE_ENCODER = ("architectures", "transformers_version", "torch_dtype", "dtype", "_name_or_path", "_commit_hash")
"""Entries of a ``config.json`` that say nothing about what to build."""
ACTIVATIONS = {"Identity": "identity", "Tanh": "tanh"}


def derive_text(source: str) -> TextConfig:
    """The text tower of a ``transformers`` or Sentence-Transformers directory or repository.

    Args:
        source: A directory or ``hf:ORG/NAME``.

    Raises:
        UsageError: Not the name of a repository.
        CheckpointError: A part that no configuration of ours describes.
        DataError: It cannot be had.
    """
    layout = open_layout(source)
    modules = sentence_modules(layout)
    encoder = {key: value for key, value in layout.config(modules.encoder).items() if key not in NOT_THE_ENCODER}
    lengths = [MOST_TOKENS, encoder.get("max_position_embeddings"), encoder.get("n_positions")]
    if path := layout.file("sentence_bert_config.json", certain=False):
        lengths.append(read_json(path).get("max_seq_length"))
    fields: dict[str, Any] = {"encoder": encoder, "max_tokens": min(n for n in lengths if isinstance(n, int) and n > 1)}
    if modules.pooling is not None:
        fields["pool"] = _pool(layout, modules.pooling)
    if modules.dense is not None:
        dense = layout.config(modules.dense)
        activation = str(dense.get("activation_function", "Tanh")).rpartition(".")[2]
        if activation not in ACTIVATIONS:
            raise CheckpointError(
                f"{layout.name}: dense layer with activation {activation}; accepted: {', '.join(ACTIVATIONS)}"
            )
        fields |= {
            "dense": dense.get("out_features"),
            "dense_bias": bool(dense.get("bias", True)),
            "dense_activation": ACTIVATIONS[activation],
        }
    try:
        return TextConfig(**fields)
    except ConfigError as error:
        raise CheckpointError(f"{layout.name}: {error}") from error


def derive_vision(source: str) -> VisionConfig:
    """The image tower of weights that timm publishes, or of a directory or repository in timm's layout.

    Args:
        source: ``timm:NAME``, a directory or ``hf:ORG/NAME``.

    Raises:
        UsageError: A name that timm does not know, or that cannot be a repository's.
        CheckpointError: Not timm's layout.
        DataError: It cannot be had.
    """
    arguments: dict[str, Any] = {}
    if source.startswith("timm:"):
        backbone, _, _ = (name := source.removeprefix("timm:")).partition(".")
        if not timm.is_model(backbone):
            raise UsageError(f"{source}: timm {timm.__version__} knows no such model")
        published = timm.get_pretrained_cfg(name)
        facts = published.to_dict() if published else {}
    else:
        layout = open_layout(source)
        document = layout.config()
        facts = document.get("pretrained_cfg", document)
        backbone = str(document.get("architecture", ""))
        if not timm.is_model(backbone):
            raise CheckpointError(
                f"{layout.name}: its {CONFIG} names no architecture that timm {timm.__version__} knows"
            )
        ours = ("num_classes", "in_chans")
        arguments = {key: value for key, value in document.get("model_args", {}).items() if key not in ours}
    size = facts.get("input_size", (3, 224, 224))[-1]
    colours: dict[str, Any] = {key: tuple(facts[key]) for key in ("mean", "std") if key in facts}
    return VisionConfig(backbone, size, trunk_args=arguments, **colours)


def _pool(layout: Layout, part: str) -> str:
    document = layout.config(part)
    modes = document.get("pooling_mode") or [
        key.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for key, value in document.items()
        if key.startswith("pooling_mode_") and value is True
    ]
    modes = [modes] if isinstance(modes, str) else list(modes)
    if modes not in (["mean"], ["cls"]):
        raise CheckpointError(
            f"{Path(layout.name) / part}: pools by {', '.join(modes) or 'nothing'}; accepted: mean, cls"
        )
    return modes[0]
