"""How the C library keeps memory while a model is trained on the CPU. Imports no torch."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Numbers of glibc's ``mallopt``; source: ``malloc.h``."""


def keep_freed_memory() -> bool:
    """Keep large blocks when they are freed, instead of giving them back to the system; whether that was possible.

    Activations of a layer take tens of megabytes. By default every one is mapped, filled page by page by the kernel and
    unmapped again, at every layer of every step, which can take several times as long as the layer itself
    (``benchmarks/kept_memory.csv``). The price is that the process keeps its largest size.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False  # another C library, such as musl
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
