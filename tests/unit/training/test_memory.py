"""Freed memory stays with the process, which its page faults show."""

import subprocess
import sys

import pytest

from clippy_core.training.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from clippy_core.training.memory import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def use():
    np.ones(64 << 20, np.uint8)
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(way):
    done = subprocess.run([sys.executable, "-c", FAULTS, way], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is asked")
def test_a_block_that_was_freed_is_not_fetched_again():
    usual, kept = faults("usual"), faults("kept")
    assert usual > 300  # ten times 64 MB, in pages of at most 2 MB
    assert kept < usual / 10


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_elsewhere_nothing_is_asked(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    assert keep_freed_memory() is False


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert keep_freed_memory() is False
