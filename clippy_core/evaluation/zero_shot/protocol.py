"""How pictures and names are put before the model, as named sets of choices. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from clippy_core.errors import UsageError
from clippy_core.evaluation.options import BenchmarkOptions
from clippy_core.evaluation.vocabulary.templates import OPENAI_80, PAPER, SETS
from clippy_core.model.config import ModelConfig
from clippy_core.model.preprocess import working_size
from clippy_core.prompts import check_templates
from clippy_core.segmentation.options import MAX_SIZE, MIN_SIZE

CROP, WHOLE = "crop", "whole"


@dataclass(frozen=True)
class ClassificationProtocol:
    """Choices.

    Attributes:
        templates: Prompts that names are put into, or the name of a list of them: ``paper`` or ``openai-80``.
        picture: ``crop`` for the square in the middle, ``whole`` for all of the picture.
        size: Short side in pixels; None for the model's own.

    Raises:
        UsageError: A choice that is not accepted.
    """

    templates: str | tuple[str, ...] = PAPER
    picture: str = CROP
    size: int | None = 224

    def __post_init__(self) -> None:
        if isinstance(self.templates, str) and self.templates not in SETS:
            raise UsageError(
                f"protocol: templates {self.templates!r} are unknown; accepted: {', '.join(SETS)}, or prompts"
            )
        if self.picture not in (CROP, WHOLE):
            raise UsageError(f"protocol: picture is {self.picture!r}; accepted: {CROP}, {WHOLE}")
        if self.size is not None and not MIN_SIZE <= self.size <= MAX_SIZE:
            raise UsageError(f"protocol: size is {self.size}; accepted: {MIN_SIZE} to {MAX_SIZE} pixels")
        chosen = SETS[self.templates] if isinstance(self.templates, str) else self.templates
        object.__setattr__(self, "templates", check_templates(chosen))

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompts themselves."""
        assert isinstance(self.templates, tuple), "looked up in __post_init__"
        return self.templates

    def side(self, config: ModelConfig, stride: int) -> int:
        """The short side in pixels as the model's grid allows it: the nearest multiple of ``stride``."""
        size = self.size or config.vision.size
        return working_size((size, size), size, stride)[0]


PRESETS: Mapping[str, ClassificationProtocol] = {
    "paper": ClassificationProtocol(PAPER),
    "kahnchana": ClassificationProtocol(OPENAI_80),
    "openai": ClassificationProtocol(OPENAI_80, size=None),
    "whole": ClassificationProtocol(PAPER, WHOLE, size=None),
}
"""``paper``: one prompt, the middle of the picture at 224 pixels; ``kahnchana``: the same with 80 prompts, as the
published code does it; ``openai``: 80 prompts, the middle of the picture at the model's own size; ``whole``: one
prompt, all of the picture, as it is segmented.

Source: arXiv 2210.09996; ``src/training/zero_shot.py`` of the repository kahnchana/clippy; arXiv 2103.00020.
"""


def choose(
    options: BenchmarkOptions, benchmark: str, presets: Mapping[str, ClassificationProtocol] = PRESETS
) -> ClassificationProtocol:
    """The preset that was asked for, with what the user wants otherwise.

    Raises:
        UsageError: An unknown preset or choice, or an option that means nothing to a classifier.
    """
    _refuse(options, benchmark)
    name = options.protocol or "paper"
    if name not in presets:
        raise UsageError(f"--protocol is {name!r}; accepted by benchmark {benchmark!r}: {', '.join(presets)}")
    known = [field.name for field in fields(ClassificationProtocol)]
    changes: dict[str, Any] = dict(options.overrides)
    unknown = next((key for key in changes if key not in known), None)
    if unknown is not None:
        raise UsageError(f"protocol: no field {unknown!r} for benchmark {benchmark!r}; accepted: {', '.join(known)}")
    if options.segment.templates is not None:
        changes["templates"] = options.segment.templates
    if options.segment.size is not None:
        changes["size"] = options.segment.size
    return replace(presets[name], **changes)


def _refuse(options: BenchmarkOptions, benchmark: str) -> None:
    """Refuse what would have no effect."""
    said = f"benchmark {benchmark!r} names whole pictures"
    for meant, message in (
        (options.segment.rule.kind != "none", f"--background: {said}, which have no background"),
        (options.segment.windows is not None, f"--window: {said}; accepted: --size"),
        (options.metric != "top-down", f"--metric is {options.metric!r}: {said}; accepted: top-down"),
        (options.worst > 0, f"--worst: {said}, so there is no label map to draw"),
        (options.calibrate is not None, f"--calibrate: {said} and has no limit to choose"),
    ):
        if meant:
            raise UsageError(message)
