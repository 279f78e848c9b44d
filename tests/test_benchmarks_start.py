"""What a program waits for can be measured, and leaves a library as it was."""

from pathlib import Path

import pytest

from embedder import open_embedder
from indexer.maintenance.storage import open_storage

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs a checkout")


def test_every_time_is_taken_and_the_library_is_as_before(tmp_path: Path):
    from benchmarks.start import made, measured

    directory = tmp_path / "library"
    with open_embedder("mini") as embedder:
        made(directory, 1_000, embedder)
    with open_storage(directory) as place:
        before = place.catalog.stats()
    times = measured(directory)
    assert {"opening", "start of the page", "first search", "adding a photo"} <= times.keys()
    assert all(milliseconds > 0 for milliseconds in times.values())
    with open_storage(directory) as place:
        assert place.catalog.stats() == before
