"""Reading pictures in threads while the model looks at earlier ones."""

import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

AHEAD = 8
"""Pictures that are read before they are asked for."""
MAX_THREADS = 4

_Item = TypeVar("_Item")
_Found = TypeVar("_Found")


def read_ahead(read: Callable[[_Item], _Found], items: Iterable[_Item]) -> Generator[_Found, None, None]:
    """``read`` of every item, in order; whatever it raises is raised in its place."""
    waiting: deque[Future[_Found]] = deque()
    # Decoding silences warnings, which in threads may outlast it: whatever is left of that ends here.
    with warnings.catch_warnings(), ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(read, item))
                if len(waiting) > AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
