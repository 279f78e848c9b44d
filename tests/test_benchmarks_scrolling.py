"""What a browser's trace says of frames is added up for each of them."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs a checkout")


def test_processor_time_is_that_of_the_thread_that_draws_from_frame_to_frame():
    pytest.importorskip("playwright")
    from benchmarks.scrolling import main_thread

    def event(name, microseconds, thread=1, **more):
        return {"name": name, "ts": microseconds, "pid": 1, "tid": thread, **more}

    tasks = [event("RunTask", 1_000 * one + 5, tdur=100 * one) for one in range(1, 11)]
    frames = [event("BeginMainThreadFrame", 1_000 * one) for one in range(1, 11)]
    before = event("RunTask", 0, tdur=9_000)
    elsewhere = [event("RunTask", 1_500, thread=2, tdur=80_000), event("Paint", 1_600)]
    found = main_thread([before, *tasks, *elsewhere, *frames])
    assert found["main thread, ms a frame: median"] == pytest.approx(0.55)
    assert found["main thread, ms a frame: most"] == pytest.approx(1.0)
