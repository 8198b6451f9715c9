"""How published figures were measured: every choice by name, and what a user changed of it. Imports no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from clippy_core.errors import UsageError
from clippy_core.evaluation.options import CERTAINTIES, BenchmarkOptions
from clippy_core.segmentation.background import parse_background
from clippy_core.segmentation.options import MAX_SIZE, MIN_SIZE, Windows

PICTURES = ("whole", "crop")
MASKS = ("own", "crop", "squash")
BACKGROUNDS = ("name", "names", "none")


@dataclass(frozen=True)
class Protocol:
    """Everything that could change a figure, besides model and data.

    Attributes:
        name: Name of the preset.
        source: Where its choices come from.
        split: Part of the data set; None for its usual one.
        size: Short side of the picture in pixels; None for the model's own.
        sizes: Other short sides for data sets whose name begins so.
        picture: ``whole`` (aspect kept, sides rounded to the model's grid) or ``crop`` (short side to ``size``, then
            the middle square).
        mask: ``own`` (compared at the mask's own resolution, to which the prediction is brought), ``crop`` (resized
            and cut as the picture is, nearest pixel) or ``squash`` (the whole mask on the square, nearest pixel, which
            does not line up with a cropped picture).
        windows: Sliding windows on the resized picture; None for none.
        templates: Prompts that words are put into; ``a(n) {}`` takes the article that the word's first letter asks for.
            None for the model's own.
        synonyms: Whether the data set's synonyms are asked for too; the highest cosine of all words of a class counts.
        background: What is asked for in the background's place, in a data set that has a class for it: its ``name``,
            the data set's list of ``names`` of what it may be, ``none`` (only ``limit`` decides), or words.
        limit: Also background is what the winner is not sure of: ``none``, ``threshold=T`` (cosine), ``margin=T``
            (lead over the runner-up) or ``softmax=P``.
        scale: Factor on cosines before the softmax of ``limit``; None for the model's own.
        scales: Other factors for data sets whose name begins so.
        renamed: Classes that are asked for by other names.
        distractors: Words that count as background, in a data set that has a class for it.
        remarks: What its source leaves open or does otherwise.
        changed: Fields in which the user differs from the preset.
    """

    name: str
    source: str
    split: str | None = None
    size: int | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    picture: str = "whole"
    mask: str = "own"
    windows: Windows | None = None
    templates: tuple[str, ...] | None = None
    synonyms: bool = False
    background: str | tuple[str, ...] = "names"
    limit: str = "none"
    scale: float | None = None
    scales: Mapping[str, float] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    distractors: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, accepted in (("picture", self.picture, PICTURES), ("mask", self.mask, MASKS)):
            if value not in accepted:
                raise UsageError(f"protocol: {name} is {value!r}; accepted: {', '.join(accepted)}")
        for size in (self.size, *self.sizes.values()):
            if size is not None and not MIN_SIZE <= size <= MAX_SIZE:
                raise UsageError(f"protocol: size is {size}; accepted: {MIN_SIZE} to {MAX_SIZE} pixels")
        if isinstance(self.background, str) and self.background not in BACKGROUNDS:
            raise UsageError(
                f"protocol: background is {self.background!r}; accepted: {', '.join(BACKGROUNDS)}, or words"
            )
        for scale in (self.scale, *self.scales.values()):
            if scale is not None and not scale > 0:
                raise UsageError(f"protocol: scale is {scale}; accepted: above 0")
        if self.mask != "own" and self.picture == "whole":
            raise UsageError(f"protocol: mask {self.mask!r} needs picture 'crop'; accepted with 'whole': 'own'")
        if self.mask == "own" and self.picture == "crop":
            raise UsageError("protocol: a cropped picture has no prediction outside; accepted: mask 'crop' or 'squash'")
        if parse_background(self.limit).kind not in ("none", *CERTAINTIES):
            raise UsageError(f"protocol: limit is {self.limit!r}; accepted: none, {'=T, '.join(CERTAINTIES)}=P")

    @property
    def certainty(self) -> str | None:
        """What ``limit`` looks at: ``threshold``, ``margin`` or ``softmax``; None if there is no limit."""
        rule = parse_background(self.limit)
        return rule.kind if rule.by_certainty else None

    @property
    def limit_value(self) -> float:
        """The number in ``limit``; 0 if there is none."""
        return parse_background(self.limit).value

    def side(self, dataset: str) -> int | None:
        """The short side for a data set, in pixels; None for the model's own."""
        return next((side for start, side in self.sizes.items() if dataset.startswith(start)), self.size)

    def softmax_scale(self, dataset: str) -> float | None:
        """The factor before the softmax for a data set; None for the model's own."""
        return next((scale for start, scale in self.scales.items() if dataset.startswith(start)), self.scale)

    def describe(self) -> dict[str, Any]:
        """The choices as plain data, one entry a field."""
        from clippy_core.evaluation.vocabulary.templates import SETS

        known = {prompts: name for name, prompts in SETS.items()}
        described = asdict(self) | {name: dict(getattr(self, name)) for name in ("sizes", "scales", "renamed")}
        return described | {"templates": known.get(self.templates or (), self.templates)}


# The 39 classes of PASCAL Context's 59 that are not among VOC's twenty, which that code counts as background.
_KAHNCHANA_DISTRACTORS = (
    *("bag", "bed", "bench", "book", "building", "cabinet", "ceiling", "cloth", "computer", "cup", "door", "fence"),
    *("floor", "flower", "food", "grass", "ground", "keyboard", "light", "mountain", "mouse", "curtain", "platform"),
    *("sign", "plate", "road", "rock", "shelves", "sidewalk", "sky", "snow", "bedclothes", "track", "tree", "truck"),
    *("wall", "water", "window", "wood"),
)
_KAHNCHANA = Protocol(
    "kahnchana",
    "src/evaluation and notebooks/evaluate.ipynb of github.com/kahnchana/clippy, which report 42.1 on VOC",
    split="train",
    size=224,
    picture="crop",
    mask="squash",
    templates=("a photo of a(n) {}",),
    background="name",
    renamed={"dining table": "table", "tv monitor": "television monitor"},
    distractors=_KAHNCHANA_DISTRACTORS,
    remarks=(
        "pictures are cropped while masks are squashed, so that they do not line up",
        "that code interpolates features before it compares them with words; interpolation is linear, so that "
        "comparing first gives the same labels",
        "its mean over classes counts a class that never occurs as 0; here such a class is left out",
    ),
)
PRESETS: Mapping[str, tuple[str, Protocol]] = {
    "paper": (
        "the whole picture at the model's own size, one prompt, background by a list of names",
        Protocol(
            "paper",
            "Perceptual Grouping in Contrastive Vision-Language Models, arXiv 2210.09996",
            templates=("a photo of a {}.",),
            remarks=(
                "chosen here, not taken from the paper: aspect kept instead of cropped, masks compared at their own "
                "resolution, the list of names for background",
            ),
        ),
    ),
    "kahnchana": ("what the published code does on VOC, its misaligned masks included", _KAHNCHANA),
    "kahnchana-aligned": (
        "the published code with masks cropped as the pictures are",
        replace(_KAHNCHANA, name="kahnchana-aligned", mask="crop", remarks=_KAHNCHANA.remarks[1:]),
    ),
    "sclip": (
        "sliding windows of 224 every 112 pixels at 336, 80 prompts, synonyms, background by names and softmax",
        Protocol(
            "sclip",
            "configs and clip_segmentor.py of github.com/wangf3014/SCLIP (arXiv 2312.01597)",
            size=336,
            sizes={"cityscapes": 560},
            windows=Windows(224, 112),
            synonyms=True,
            limit="softmax=0.1",
            scale=50.0,
            scales={"voc": 65.0},
            remarks=(
                "synonyms and names for background are this package's own lists",
                "windows are averaged on the model's grid, not pixel by pixel; sides are rounded to that grid",
                "a probability is one label's among labels; that code's is one word's among words",
                "for VOC that code also drops labels that have less than a tenth of all pixels that are not "
                "background, which is not done here",
            ),
        ),
    ),
}
"""By name: one line for listings, and the protocol. ``sclip`` gets its prompts from :func:`preset`."""
DEFAULT = "paper"


def preset(name: str | None = None) -> Protocol:
    """The protocol of that name; None for :data:`DEFAULT`.

    Raises:
        UsageError: There is none.
    """
    found = PRESETS.get(name or DEFAULT)
    if found is None:
        raise UsageError(f"--protocol is {name!r}; accepted: {', '.join(PRESETS)}")
    if found[1].name == "sclip":
        from clippy_core.evaluation.vocabulary.templates import OPENAI_80

        return replace(found[1], templates=OPENAI_80)
    return found[1]


def resolve(options: BenchmarkOptions) -> Protocol:
    """The preset that was asked for, with what the user wants otherwise.

    Raises:
        UsageError: An unknown preset, or a field or value that is not accepted.
    """
    protocol = preset(options.protocol)
    wanted = {**_of_segment(options), **options.overrides}
    if options.split is not None:
        wanted["split"] = options.split
    accepted = {each.name for each in fields(Protocol)} - {"name", "source", "remarks", "changed"}
    unknown = wanted.keys() - accepted
    if unknown:
        raise UsageError(f"protocol: no field {min(unknown)!r}; accepted: {', '.join(sorted(accepted))}")
    changed = tuple(sorted(name for name, value in wanted.items() if getattr(protocol, name) != value))
    return replace(protocol, **wanted, changed=changed)


def _of_segment(options: BenchmarkOptions) -> dict[str, Any]:
    """Fields that the options for each picture set."""
    segment = options.segment
    wanted: dict[str, Any] = {}
    if segment.size is not None:
        # The user's size holds for every data set.
        wanted |= {"size": segment.size, "sizes": {}}
    if segment.templates is not None:
        wanted["templates"] = segment.templates
    if segment.windows is not None:
        wanted["windows"] = segment.windows
    if segment.rule.label is not None:
        wanted |= {"background": segment.rule.label.words, "limit": "none"}
    elif segment.rule.by_certainty:
        wanted |= {"background": "none", "limit": f"{segment.rule.kind}={segment.rule.value:g}"}
    return wanted
