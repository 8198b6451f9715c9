"""Reading ahead: in order, in other threads, not too far, and errors where they belong."""

import threading

import pytest

from clippy_core.evaluation.dense.ahead import AHEAD, read_ahead


def test_in_order_and_elsewhere():
    threads = set()

    def read(item):
        threads.add(threading.current_thread())
        return item * item

    assert list(read_ahead(read, range(50))) == [number**2 for number in range(50)]
    assert threading.main_thread() not in threads
    assert list(read_ahead(read, [])) == []


def test_no_more_is_read_than_was_asked_for_and_a_few():
    begun = []
    found = read_ahead(lambda item: begun.append(item), range(1000))
    for asked in range(1, 6):
        next(found)
        assert len(begun) <= asked + AHEAD
    found.close()
    assert len(begun) <= 5 + AHEAD


def test_an_error_comes_in_its_place():
    def read(item):
        if item == 3:
            raise ValueError("three")
        return item

    found = read_ahead(read, range(30))
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(found)
