"""How others lay out pretrained models: directories and hub repositories, read file by file."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from clippy_core.errors import CheckpointError, DataError
from clippy_core.files import write_bytes
from clippy_core.model.cache import cache_folder
from clippy_core.model.convert import read_file, without_prefixes
from clippy_core.model.directory import CONFIG, TOKENIZER, is_file_name, read_json
from clippy_core.model.hub import PREFIX, Repository, fetch_directory

MODULES = "modules.json"
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
SLOW_TOKENIZERS = ("spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt", "vocab.json")
TOKENIZER_EXTRAS = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt", CONFIG)


class Layout(Protocol):
    """A pretrained model as files with names.

    Attributes:
        name: As messages call it.
    """

    name: str

    def file(self, name: str, *, certain: bool = True) -> Path | None:
        """A file of it on this machine, or None; see :meth:`Repository.file`."""
        ...

    def config(self, part: str = "") -> dict[str, Any]:
        """The ``config.json`` of the model or of a part of it."""
        ...

    def own_directory(self) -> Path:
        """All of it as a directory, if it is a model directory of ours."""
        ...


class Folder:
    """A directory on this machine."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, str(path)

    def file(self, name: str, *, certain: bool = True) -> Path | None:
        """See :class:`Layout`."""
        found = self.path / name
        return found if found.is_file() else None

    def config(self, part: str = "") -> dict[str, Any]:
        """See :class:`Layout`."""
        return read_json(self.path / part / CONFIG)

    def own_directory(self) -> Path:
        """See :class:`Layout`."""
        return self.path


class OnTheHub(Repository):
    """A repository on the Hugging Face hub."""

    def config(self, part: str = "") -> dict[str, Any]:
        """See :class:`Layout`."""
        return read_json(self.require(_inside(part, CONFIG)))

    def own_directory(self) -> Path:
        """See :class:`Layout`."""
        return fetch_directory(self.name)


def open_layout(source: str, *, hub: bool = False) -> Layout:
    """What a user named: ``hf:ORG/NAME`` or a directory; with ``hub``, an id without the prefix too.

    Raises:
        UsageError: Not the name of a repository.
        DataError: No such directory.
    """
    if source.startswith(PREFIX):
        return OnTheHub(source)
    if Path(source).is_dir() and source:
        return Folder(Path(source))
    if hub and source.count("/") == 1 and not source.startswith((".", "/")):
        return OnTheHub(source)
    raise DataError(
        f"{source!r}: no such file or directory; accepted: a path, {PREFIX}ORG/NAME, or a model that is on this machine"
    )


class SentenceModules(NamedTuple):
    """The parts of a Sentence-Transformers model, as folders within it; of another model, its root and nothing else."""

    encoder: str
    pooling: str | None
    dense: str | None


def sentence_modules(layout: Layout, *, certain: bool = True) -> SentenceModules:
    """Where the parts of a Sentence-Transformers model lie.

    Raises:
        CheckpointError: A list of modules that cannot be read, or with one that has no place in a text tower.
        DataError: Whether there is such a list cannot be told without the network (with ``certain``).
    """
    path = layout.file(MODULES, certain=certain)
    if path is None:
        return SentenceModules("", None, None)
    try:
        listed = [(str(part["type"]).rpartition(".")[2], str(part["path"])) for part in json.loads(path.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: not a list of modules ({type(error).__name__}: {error})") from error
    parts: dict[str, str] = {}
    for kind, folder in listed:
        if kind not in ("Transformer", "Pooling", "Dense", "Normalize") or kind in parts or ".." in folder:
            raise CheckpointError(
                f"{path}: module {kind} in {folder!r} has no place in a text tower; accepted: one Transformer, one "
                "Pooling, one Dense and one Normalize"
            )
        parts[kind] = folder
    return SentenceModules(parts.get("Transformer", ""), parts.get("Pooling"), parts.get("Dense"))


def read_weights(layout: Layout, part: str) -> dict[str, Tensor]:
    """The tensors of a model or of a part of it, from one file or several with an index; wrappers taken off.

    Raises:
        CheckpointError: No weights, or files that cannot be read or do not hold what the index lists.
        DataError: They are not on this machine, and the hub cannot be reached.
    """
    for name in WEIGHT_FILES:
        if path := layout.file(_inside(part, name), certain=False):
            return without_prefixes(read_file(path))
        if index := layout.file(_inside(part, f"{name}.index.json"), certain=False):
            return without_prefixes(_read_shards(layout, part, index))
    for name in WEIGHT_FILES:  # says so if it is only that they cannot be fetched
        layout.file(_inside(part, name))
    where = f"{layout.name}/{part}" if part else layout.name
    raise CheckpointError(f"{where}: no weights in it; accepted: {', '.join(WEIGHT_FILES)}, or their index and parts")


def _read_shards(layout: Layout, part: str, index: Path) -> dict[str, Tensor]:
    listed = read_json(index).get("weight_map")
    if not isinstance(listed, dict) or not all(
        isinstance(name, str) and is_file_name(name) for name in listed.values()
    ):
        raise CheckpointError(f"{index}: no weight_map that names files beside it")
    state: dict[str, Tensor] = {}
    for name in sorted(set(listed.values())):
        path = layout.file(_inside(part, name))
        if path is None:
            raise CheckpointError(f"{index}: lists {name}, which is missing")
        tensors = read_file(path)
        for key in [key for key, file in listed.items() if file == name]:
            if key not in tensors:
                raise CheckpointError(f"{index}: lists {key} in {name}, which does not hold it")
            state[key] = tensors[key]
    return state


def find_tokenizer(layout: Layout) -> Path:
    """The ``tokenizer.json`` of a model; one of an older kind is converted and kept in our cache.

    Raises:
        CheckpointError: It has none, or one that cannot be converted here.
        DataError: It is not on this machine, and the hub cannot be reached.
    """
    modules = sentence_modules(layout, certain=False)
    parts = dict.fromkeys((modules.encoder, ""))
    for part in parts:
        if path := layout.file(_inside(part, TOKENIZER), certain=False):
            return path
    for part in parts:
        for name in SLOW_TOKENIZERS:
            if path := layout.file(_inside(part, name), certain=False):
                for extra in TOKENIZER_EXTRAS:
                    layout.file(_inside(part, extra), certain=False)
                return _converted_tokenizer(path)
    layout.file(TOKENIZER)  # says so if it is only that it cannot be fetched
    raise CheckpointError(f"{layout.name}: has no {TOKENIZER}")


def _converted_tokenizer(path: Path) -> Path:
    from transformers import AutoTokenizer

    instead = f"put a {TOKENIZER} beside it, or name another with the same vocabulary"
    missing = [
        name for name in ("sentencepiece", "google.protobuf") if path.suffix == ".model" and not _installed(name)
    ]
    if missing:
        raise CheckpointError(
            f"{path}: a sentencepiece model alone, which cannot be converted without the packages sentencepiece and "
            f"protobuf; `pip install sentencepiece protobuf`, or {instead}"
        )
    try:
        with quiet_transformers():
            backend = AutoTokenizer.from_pretrained(str(path.parent), local_files_only=True).backend_tokenizer
        content = backend.to_str().encode()
    except Exception as error:
        # Any kind: vocabularies that are none, kinds of tokenizers that cannot be converted.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise CheckpointError(
            f"{path}: a tokenizer of an older kind that cannot be converted ({reason}); {instead}"
        ) from error
    target = cache_folder() / "tokenizers" / f"{hashlib.sha256(content).hexdigest()[:16]}.json"
    write_bytes(target, content)
    return target


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # of the package that it would be in
        return False


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Without the library's own progress bar and reports; what matters of them becomes an error here."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()


def _inside(part: str, name: str) -> str:
    return f"{part}/{name}" if part else name
