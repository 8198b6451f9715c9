"""What a label map call returns."""

from dataclasses import dataclass
from typing import Any

Array = Any
"""A numpy array or a torch tensor; results are of the same library and device as the logits that came in."""


@dataclass(frozen=True)
class LabelMap:
    """The label of every output pixel.

    Attributes:
        labels_HW: int32, index of the winning label in ``range(K)``, or among the groups where groups were given.
        scores_HW: float32 or None, the winner's interpolated logit (its probability from ``softmax_label_map``).
        margins_HW: float32 or None, winner minus the best other label; ``inf`` where there is only one label.
        implementation: which code computed it: ``reference``, ``numpy``, ``torch`` or ``triton``.
        reason: one line, why this implementation.
    """

    labels_HW: Array
    scores_HW: Array | None = None
    margins_HW: Array | None = None
    implementation: str = ""
    reason: str = ""
