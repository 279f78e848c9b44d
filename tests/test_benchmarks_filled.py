"""Libraries that are filled for measuring are as real ones, but for the files that they name."""

from pathlib import Path

import numpy as np
import pytest

from embedder.content import Content
from embedder.media.kinds import Kind
from embedder.toy import ToyEmbedder
from indexer import Library, Query, QueryPart
from indexer.maintenance.check import Fault, check
from indexer.maintenance.storage import open_storage

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs a checkout")


def test_a_filled_library_is_sound_and_the_same_each_time(tmp_path):
    from benchmarks.filled import fill

    info = ToyEmbedder().info
    for name in ("one", "two"):
        assert list(fill(tmp_path / name, 1_000, info))[-1] == 1_000
    with open_storage(tmp_path / "one") as place, open_storage(tmp_path / "two") as other:
        # Its files are made up, so there was nothing to make small pictures of.
        assert {one.fault for one in check(place).findings} == {Fault.THUMBNAILS_MISSING}
        assert place.catalog.stats() == other.catalog.stats()
        ids = range(1, 1_001)
        assert np.array_equal(place.catalog.vectors_of(ids), other.catalog.vectors_of(ids))
        segments = place.catalog.stats().segments
    assert segments == {Kind.IMAGE: 500, Kind.VIDEO: 100, Kind.PDF: 200, Kind.TEXT: 200}
    with Library.open(tmp_path / "one", embedder=ToyEmbedder()) as library:
        assert library.search(Query((QueryPart(Content(text="the people")),)))
    with pytest.raises(FileExistsError, match="another folder"):
        next(fill(tmp_path / "one", 1_000, info))
