"""Loops report to the tracker that is set, and to nobody else."""

import threading

import pytest

from speakervlad.progress import track, tracked_by


@pytest.fixture
def seen():
    return []


@pytest.fixture
def tracker(seen):
    def follow(items, description, total=None):
        for item in items:
            seen.append((description, item, total))
            yield item

    return follow


def test_without_a_tracker_nothing_is_reported(seen):
    assert list(track([1, 2], "counting")) == [1, 2]
    assert seen == []


def test_loops_report_to_the_tracker_that_is_set(tracker, seen):
    with tracked_by(tracker):
        assert list(track("ab", "spelling", 2)) == ["a", "b"]
        with tracked_by(None):
            assert list(track("c", "silently")) == ["c"]
        list(track("d", "again"))
    list(track("e", "afterwards"))
    assert seen == [("spelling", "a", 2), ("spelling", "b", 2), ("again", "d", None)]


def test_a_tracker_goes_when_the_work_fails(tracker, seen):
    with pytest.raises(ZeroDivisionError), tracked_by(tracker):
        list(map(lambda number: 1 / number, track([0], "dividing")))
    list(track([2], "afterwards"))
    assert seen == [("dividing", 0, None)]


def test_threads_begin_without_one(tracker, seen):
    with tracked_by(tracker):
        thread = threading.Thread(target=lambda: list(track([1], "elsewhere")))
        thread.start()
        thread.join()
    assert seen == []
