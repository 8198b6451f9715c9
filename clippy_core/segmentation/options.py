"""How to segment, checked before anything heavy is imported."""

from dataclasses import dataclass

from clippy_core.errors import UsageError
from clippy_core.images import MAX_PIXELS
from clippy_core.prompts import check_templates
from clippy_core.segmentation.background import BackgroundRule, parse_background

MIN_SIZE, MAX_SIZE = 32, 4096
REFINEMENTS = ("none", "guided")


@dataclass(frozen=True)
class Windows:
    """Square windows of ``window`` pixels every ``stride`` pixels, on the resized picture.

    Raises:
        UsageError: A stride that is not between 1 and the window.
    """

    window: int
    stride: int

    def __post_init__(self) -> None:
        if not 1 <= self.stride <= self.window:
            raise UsageError(f"--stride is {self.stride}; accepted: 1 to the window's {self.window} pixels")

    def aligned(self, cell: int) -> "Windows":
        """The same with both numbers rounded to multiples of the grid's ``cell``, so that windows share a grid."""
        return Windows(*(max(cell, round(value / cell) * cell) for value in (self.window, self.stride)))


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment; what is None is the model's own choice.

    Attributes:
        size: Short side in pixels that the picture is resized to before the image tower sees it.
        templates: Prompts each word is put into; embeddings are averaged over them.
        background: Rule for *none of these*: a :class:`BackgroundRule` or its text form, such as ``"threshold=0.2"``.
        windows: Look through overlapping windows instead of at the whole picture.
        refine: How label borders follow the picture: one of ``REFINEMENTS``.
        score_map: Also keep the winner's cosine at every pixel.
        max_pixels: Larger pictures are refused before they are decoded.
    """

    size: int | None = None
    templates: tuple[str, ...] | None = None
    background: str | BackgroundRule | None = None
    windows: Windows | None = None
    score_map: bool = False
    refine: str = "none"
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.size is not None and not MIN_SIZE <= self.size <= MAX_SIZE:
            raise UsageError(f"--size is {self.size}; accepted: {MIN_SIZE} to {MAX_SIZE} pixels")
        if self.refine not in REFINEMENTS:
            raise UsageError(f"--refine is {self.refine!r}; accepted: {', '.join(REFINEMENTS)}")
        if self.templates is not None:
            object.__setattr__(self, "templates", check_templates(self.templates))
        if not isinstance(self.background, BackgroundRule):
            object.__setattr__(self, "background", parse_background(self.background))

    @property
    def rule(self) -> BackgroundRule:
        """The background rule, parsed."""
        assert isinstance(self.background, BackgroundRule), "parsed in __post_init__"
        return self.background
