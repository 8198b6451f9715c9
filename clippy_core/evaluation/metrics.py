"""Figures and how sure they are."""

import math


def wilson_interval(right: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Confidence interval of a proportion, 0…1; 95 % with the default ``z``.

    Source: E. B. Wilson, *Probable inference, the law of succession, and statistical inference*, 1927.

    Raises:
        ValueError: ``total`` is not positive or ``right`` is not in 0…total.
    """
    if total <= 0 or not 0 <= right <= total:
        raise ValueError(f"{right} of {total} is not a proportion")
    share = right / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)
