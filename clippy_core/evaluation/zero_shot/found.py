"""What was found on the pictures so far, in numbers that add up over processes and attempts.

Shapes: N picture.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Found:
    """One entry a picture, ``int64``, 0 where nobody has looked.

    Attributes:
        done_N: 1 for pictures that were looked at.
        places_N: Place of the right class among all, from 1; 0 also for pictures that cannot be used.
        answers_N: Index of the class that the model said, plus 1; 0 likewise.
    """

    done_N: np.ndarray
    places_N: np.ndarray
    answers_N: np.ndarray

    @staticmethod
    def of(pictures: int) -> "Found":
        """Nothing yet."""
        return Found(*(np.zeros(pictures, np.int64) for _ in range(3)))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything by name; what :meth:`absorb` takes."""
        return {"done": self.done_N, "places": self.places_N, "answers": self.answers_N}

    def absorb(self, arrays: dict[str, np.ndarray]) -> None:
        """Add what was found on other pictures.

        Raises:
            ValueError: Arrays of other shapes or types, or a picture that is there already.
            KeyError: One is missing.
        """
        own = self.arrays()
        for name, array in own.items():
            if arrays[name].shape != array.shape or arrays[name].dtype != array.dtype:
                raise ValueError(
                    f"{name} is {arrays[name].dtype} {arrays[name].shape}, not {array.dtype} {array.shape}"
                )
        if (self.done_N & arrays["done"]).any():
            raise ValueError("a picture is counted twice")
        for name, array in own.items():
            array += arrays[name]
