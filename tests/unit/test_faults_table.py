"""``docs/faults.md`` names tests that are there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "docs/faults.md").read_text(encoding="utf-8")


def test_every_fault_has_a_line():
    assert [int(number) for number in re.findall(r"^\| (\d+) \|", TABLE, re.MULTILINE)] == list(range(1, 31))


def test_every_test_in_the_table_exists():
    """A short form, ``::name``, belongs to the file named before it."""
    file, named = "", []
    for cell in re.findall(r"`((?:tests/[\w/]+\.py)?(?:::test_\w+)?)`", TABLE):
        path, _, test = cell.partition("::")
        file = path or file
        named.append((file, test))
    assert len(named) > 40
    for file, test in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"
