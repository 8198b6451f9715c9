"""A model for training to start from: each tower from random weights or from pretrained ones.

A source of weights is written as one of these:

=====================  =================================================================================================
``random``, None       fresh weights, the same for the same seed
``timm:NAME``          timm's pretrained weights, such as ``timm:vit_base_patch16_224.dino``; image tower only
``hf:ORG/NAME``        a repository on the Hugging Face hub, ``@REVISION`` behind it if wanted
a directory            in one of the layouts below
a file                 a checkpoint that :mod:`~clippy_core.model.convert` reads; of it, this tower
a registered name      a model of ``clippy models`` that is on this machine; of it, this tower
=====================  =================================================================================================

Layouts of directories and repositories, by their ``config.json``: a model directory or checkpoint of ours (both
towers); timm's, with ``architecture`` (image); that of ``transformers``, with ``model_type`` (text); and that of
Sentence-Transformers, with ``modules.json`` and a folder a module (text). Weights are ``model.safetensors`` or
``pytorch_model.bin``, in one file or in several with an index; pickles are read with ``weights_only=True``.
"""

import pickle
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor

from clippy_core.errors import CheckpointError, ClippyError, ConfigError, DataError, UsageError
from clippy_core.model.config import ModelConfig
from clippy_core.model.convert import DERIVED, convert, read_checkpoint
from clippy_core.model.directory import MANIFEST, TOKENIZER
from clippy_core.model.dual_encoder import DualEncoder
from clippy_core.model.hub import PREFIX, Repository, explained
from clippy_core.model.layouts import (
    WEIGHT_FILES,
    Folder,
    Layout,
    find_tokenizer,
    open_layout,
    quiet_transformers,
    read_weights,
    sentence_modules,
)
from clippy_core.model.presets import MODELS, find
from clippy_core.model.text import TextTower
from clippy_core.model.tokenizer import Tokenizer
from clippy_core.model.vision import VisionTower, build_trunk
from clippy_core.model.weights import LoadedModel, load_state, require_fit, skipped_initialisation, tied_names

RANDOM = "random"
TIMM = "timm:"
TOWERS = {"vision": "image", "text": "text"}
MAY_BE_MISSING = ("vision.projection.", "text.dense.", "text.projection.")
"""Layers that a source need not have; they then start at random."""
IMAGE_HEADS = ("head.", "head_dist.", "fc.", "classifier.", "last_linear.", "attn_pool.")
TEXT_HEADS = (
    "pooler.",
    "cls.",
    "lm_head.",
    "mlm_head.",
    "decoder.",
    "classifier.",
    "pre_classifier.",
    "vocab_",
    "qa_outputs.",
    "score.",
    "vision_model.",
    "visual_projection.",
    "text_projection.",
    "logit_scale",
    "logit_bias",
)
"""Begins of keys that belong to what a source has on top of, or beside, the tower: dropped."""


def initialise(
    config: ModelConfig,
    *,
    vision: str | None = None,
    text: str | None = None,
    tokenizer: str | None = None,
    seed: int = 0,
) -> LoadedModel:
    """A model with each tower from its own source, on the CPU and in evaluation mode.

    Position embeddings are resized by timm's routines where the source's image size differs. A projection or dense
    layer that the source does not have starts at random; a dense layer of Sentence-Transformers is taken if the
    configuration has one of that shape. Classifiers and poolers of the source are dropped. torch's random state is the
    same afterwards as before.

    Args:
        config: What to build.
        vision: Source of the image tower; see the module's docstring.
        text: Source of the text tower.
        tokenizer: Hub id, directory or ``tokenizer.json``; None takes the one that comes with ``text``.
        seed: For everything that starts at random; the same seed gives the same weights, whatever else is loaded.

    Raises:
        ConfigError: The configuration cannot be built.
        UsageError: A source that cannot be understood, or no tokenizer.
        CheckpointError: A source that does not fit the tower: one line naming the missing, extra or misshapen tensors.
        DataError: A source that cannot be had; one line that says what to do.
    """
    image_source, text_source = _Source("vision", vision), _Source("text", text)
    words = Tokenizer(_tokenizer_file(tokenizer, text_source), config.text.max_tokens)
    vocabulary = config.text.encoder.get("vocab_size")
    if isinstance(vocabulary, int) and words.size > vocabulary:
        raise CheckpointError(
            f"{words.path}: has {words.size:,} tokens, but the text tower of {config.name!r} knows {vocabulary:,}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = DualEncoder(config)
        if not image_source.random:
            _fill(model, "vision", _image_state(model.vision, image_source), image_source.name)
        if not text_source.random:
            _fill(model, "text", _text_state(model.text, text_source), text_source.name)
    return LoadedModel(model.eval(), words)


class _Source:
    """Where the weights of one tower come from.

    Attributes:
        name: As messages call it.
        random: There is none.
        timm: Name of timm's weights, if they are that.
        file: Checkpoint file, if it is one.
        layout: Directory or repository, if it is one.
    """

    def __init__(self, tower: str, text: str | None) -> None:
        self.name = text or RANDOM
        self.random = text is None or text == RANDOM
        self.timm: str | None = None
        self.file: Path | None = None
        self.layout: Layout | None = None
        if self.random or text is None:
            return
        if text.startswith(TIMM):
            if tower != "vision":
                raise UsageError(f"{text!r} cannot start the text tower: timm has image towers only")
            self.timm = text.removeprefix(TIMM)
        elif text in MODELS:
            self.layout = Folder(find(text))
        elif not text.startswith(PREFIX) and Path(text).is_file():
            self.file = Path(text)
        else:
            self.layout = open_layout(text)


def _fill(model: DualEncoder, tower: str, state: Mapping[str, Tensor], source: str) -> None:
    """Copy ``state`` into one tower of a model, if it fits."""
    tied = tied_names(model)
    state = {tied.get(key, key): tensor for key, tensor in state.items()}
    left = tuple(start for start in MAY_BE_MISSING if not any(key.startswith(start) for key in state))
    expected = {
        key: tensor
        for key, tensor in model.state_dict().items()
        if key.startswith(f"{tower}.") and key not in tied and not (left and key.startswith(left))
    }
    for key, tensor in state.items():
        if key in expected and tensor.is_floating_point() and tensor.dtype != expected[key].dtype:
            state[key] = tensor.to(expected[key].dtype)
    require_fit(expected, state, f"{source}: does not fit the {TOWERS[tower]} tower of {model.config.name!r}")
    for key, tensor in expected.items():
        tensor.copy_(state[key])


# --- the image tower --------------------------------------------------------------------------------------------


def _image_state(tower: VisionTower, source: _Source) -> dict[str, Tensor]:
    if source.timm is not None:
        return _published_by_timm(tower, source.timm)
    own = _own_state("vision", source)
    if own is not None or source.layout is None:
        return own or {}
    kind = source.layout.config().get("architecture")
    if not isinstance(kind, str):
        raise CheckpointError(
            f"{source.name}: no image tower in a layout that is read: its config.json has no `architecture`, as timm's "
            f"have{_what_it_is(source.layout)}"
        )
    classifiers = source.layout.config().get("pretrained_cfg", {}).get("classifier") or ()
    names = [classifiers] if isinstance(classifiers, str) else list(classifiers)
    dropped = (*IMAGE_HEADS, *(f"{name}." for name in names))
    kept = tower.trunk.state_dict().keys()
    state = read_weights(source.layout, "")
    state = {key: tensor for key, tensor in state.items() if key in kept or not key.startswith(dropped)}
    return _through_timm(tower, source.name, {"state_dict": state, "custom_load": False, "num_classes": 0}, 0)


def _published_by_timm(tower: VisionTower, name: str) -> dict[str, Tensor]:
    try:
        published = timm.get_pretrained_cfg(name)
    except (RuntimeError, ValueError):  # what timm says of a tag that it does not know
        published = None
    if published is None or not published.has_weights:
        near = get_close_matches(name, timm.list_pretrained(), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`timm.list_pretrained()` lists them"
        raise UsageError(f"{TIMM}{name}: timm {timm.__version__} has no pretrained weights of that name; {hint}")
    if published.hf_hub_id:
        _require_on_the_hub(f"{TIMM}{name}", published.hf_hub_id, published.hf_hub_filename)
    classes = published.num_classes or 0
    # The weights of a classifier are loaded into one, so that timm checks all others.
    return _through_timm(tower, f"{TIMM}{name}", {}, classes, published.to_dict())


def _require_on_the_hub(source: str, repository: str, filename: str | None) -> None:
    """Fetch what timm will ask for, or fail at once where timm would try for minutes to reach the hub."""
    hub = Repository(repository)
    names = (filename,) if filename else WEIGHT_FILES
    if not any(hub.file(name, certain=False) for name in names) and not hub.reachable:
        try:
            hub.require(names[0])
        except DataError as error:
            raise DataError(f"{source}: {error}") from error


def _through_timm(
    tower: VisionTower, source: str, overlay: dict[str, Any], classes: int, published: dict[str, Any] | None = None
) -> dict[str, Tensor]:
    """Tensors as timm itself loads them into a trunk of this shape: renamed, resized, and none too many or too few."""
    own: Any = tower.trunk.pretrained_cfg
    size = {name: own[name] for name in ("input_size", "fixed_input_size") if name in own}
    overlay = {**overlay, **size, "label_offset": None} | ({} if classes else {"classifier": None})
    loading = {"pretrained": True, "pretrained_cfg": published, "pretrained_cfg_overlay": overlay}
    try:
        with explained(source), skipped_initialisation():
            trunk = build_trunk(tower.config, num_classes=classes, **loading)
    except ClippyError as error:
        if isinstance(error, ConfigError):  # the trunk could be built without the weights
            raise CheckpointError(f"{source}: {error}") from error
        raise
    except FileNotFoundError as error:
        raise DataError(
            f"{source}: not in the local cache and cannot be fetched; run it once where there is a network, or copy "
            "the cache of the Hugging Face hub (HF_HOME) and of torch (TORCH_HOME) to this machine"
        ) from error
    except OSError as error:
        raise DataError(f"{source}: cannot be had ({_one_line(error)}); check the network, or give a file") from error
    except (RuntimeError, AssertionError, AttributeError, pickle.UnpicklingError) as error:
        raise CheckpointError(
            f"{source}: does not fit image tower {tower.config.backbone!r}: {_mismatch(str(error))}"
        ) from error
    kept = tower.trunk.state_dict().keys()
    return {f"vision.trunk.{key}": tensor for key, tensor in trunk.state_dict().items() if key in kept}


def _mismatch(report: str) -> str:
    """Torch's report on keys that do not fit, which fills a screen, in one line."""
    problems = []
    for title, words in (("Missing", "misses"), ("Unexpected", "has an unknown")):
        if listed := re.search(rf"{title} key\(s\) in state_dict: (.*)", report):
            problems += [f"{words} {key}" for key in re.findall(r'"([^"]+)"', listed[1])]
    for key, found, wanted in re.findall(r"size mismatch for (\S+): .*?Size\((.*?)\).*?Size\((.*?)\)", report):
        problems.append(f"has {key} of shape {found} instead of {wanted}")
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(problems[:3]) + more if problems else _one_line(report)


# --- the text tower ---------------------------------------------------------------------------------------------


def _text_state(tower: TextTower, source: _Source) -> dict[str, Tensor]:
    own = _own_state("text", source)
    if own is not None or source.layout is None:
        return own or {}
    modules = sentence_modules(source.layout, certain=tower.config.dense is not None)
    kind, wanted = source.layout.config(modules.encoder).get("model_type"), tower.config.encoder["model_type"]
    if kind is None:
        raise CheckpointError(
            f"{source.name}: no text tower in a layout that is read: its config.json has no `model_type`, as those of "
            f"transformers have{_what_it_is(source.layout)}"
        )
    if kind != wanted:
        raise CheckpointError(f"{source.name}: a text tower of type {kind!r}; the configuration has {wanted!r}")
    state = _through_transformers(tower, source.name, read_weights(source.layout, modules.encoder))
    if modules.dense is not None and tower.config.dense is not None:
        dense = {
            f"text.dense.{key.removeprefix('linear.')}": t
            for key, t in read_weights(source.layout, modules.dense).items()
        }
        wanted_shapes = {f"text.dense.{key}": value.shape for key, value in tower.dense.state_dict().items()}
        if {key: tensor.shape for key, tensor in dense.items()} == wanted_shapes:
            state |= dense
    return state


def _through_transformers(tower: TextTower, source: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors as ``transformers`` loads them into an encoder of this shape, older names and all.

    What does not fit is returned as it is, for the comparison with the tower to find.
    """
    kind: Any = type(tower.encoder)
    try:
        with quiet_transformers():
            encoder, info = kind.from_pretrained(
                None,
                config=tower.encoder.config,
                state_dict=weights,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                dtype=torch.float32,
            )
    except (RuntimeError, ValueError, KeyError) as error:
        raise CheckpointError(f"{source}: transformers cannot load it ({_one_line(error)})") from error
    base = f"{encoder.base_model_prefix}."
    misshapen = {name: torch.empty(found, device="meta") for name, found, _ in info["mismatched_keys"]}
    absent = {*info["missing_keys"], *misshapen}
    state = {key: tensor for key, tensor in encoder.state_dict().items() if key not in absent} | misshapen
    state = {key: tensor for key, tensor in state.items() if not key.startswith("pooler.")}
    for key in info["unexpected_keys"]:
        if not key.removeprefix(base).startswith(TEXT_HEADS) and not key.endswith(DERIVED):
            state[key] = weights.get(key, torch.empty(0))
    return {f"text.encoder.{key}": tensor for key, tensor in state.items()}


# --- both -------------------------------------------------------------------------------------------------------


def _own_state(tower: str, source: _Source) -> dict[str, Tensor] | None:
    """One tower of a model in our format or of a checkpoint file; None if the source is something else."""
    if source.file is not None:
        state = convert(read_checkpoint(source.file), str(source.file))
    elif source.layout is not None and source.layout.file(MANIFEST, certain=False):
        state = load_state(source.layout.own_directory())
    else:
        return None
    state = {key: tensor for key, tensor in state.items() if key.startswith(f"{tower}.")}
    if not state:
        raise CheckpointError(f"{source.name}: has no {TOWERS[tower]} tower")
    return state


def _tokenizer_file(tokenizer: str | None, text_source: _Source) -> Path:
    if tokenizer is not None:
        if Path(tokenizer).is_file():
            return Path(tokenizer)
        return find_tokenizer(Folder(find(tokenizer)) if tokenizer in MODELS else open_layout(tokenizer, hub=True))
    if text_source.layout is not None:
        return find_tokenizer(text_source.layout)
    if text_source.file is not None and (text_source.file.parent / TOKENIZER).is_file():
        return text_source.file.parent / TOKENIZER
    raise UsageError(
        f"no tokenizer comes with text tower {text_source.name!r}; name one: a hub id, a directory or a {TOKENIZER}"
    )


def _what_it_is(layout: Layout) -> str:
    kind = layout.config().get("model_type") or layout.config().get("architecture")
    return f" (it holds {kind!r})" if isinstance(kind, str) else ""


def _one_line(error: object) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
