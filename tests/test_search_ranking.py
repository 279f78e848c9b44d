"""The best hits are found without looking up every candidate."""

from types import SimpleNamespace

import numpy as np
import pytest

from embedder.media import Kind
from indexer.search import ranking
from indexer.search.candidates import Candidates

KINDS = (Kind.IMAGE, Kind.PDF, Kind.VIDEO)


def made_up(seed: int, strong: float) -> tuple[Candidates, dict[int, ranking.Origin]]:
    """Up to 90 candidates of each kind, several of one file; some share of them strong hits."""
    random = np.random.default_rng(seed)
    rows, relevance, end = {}, [], 0
    for kind in KINDS:
        count = int(random.integers(0, 90))
        some = np.where(random.random(count) < strong, 0.5, 0.0) + 0.5 * random.random(count)
        relevance.append(np.sort(some.round(2))[::-1])
        rows[kind] = range(end, end := end + count)
    ids = 1 + np.arange(end)
    files = {kind: int(random.choice([1, 4, 60])) for kind in KINDS}
    origins = {
        row + 1: (1000 * number + int(random.integers(files[kind])), None)
        for number, (kind, some) in enumerate(rows.items())
        for row in some
        if random.random() < 0.97  # Others are no longer in the library.
    }
    evidence = np.zeros((3, end))
    return Candidates(rows, ids, np.concatenate(relevance), evidence, {}), origins


@pytest.mark.parametrize("strong", [0.0, 0.1, 0.9])
@pytest.mark.parametrize("seed", range(40))
def test_what_was_not_looked_up_is_no_better_hit(seed: int, strong: float):
    candidates, origins = made_up(seed, strong)
    asked: list[int] = []

    def look_up(ids: list[int]) -> dict[int, ranking.Origin]:
        asked.extend(ids)
        return {one: origins[one] for one in ids if one in origins}

    context = SimpleNamespace(catalog=SimpleNamespace(origins=look_up))
    found = ranking._folded(context, candidates, need=5)
    every = [
        one
        for kind, rows in candidates.rows.items()
        for one in ranking._fold(candidates, kind, rows, origins)
    ]
    best, expected = (
        [
            (one.segment_id, one.score)
            for one in sorted(some, key=lambda one: (-one.score, one.segment_id))[:5]
        ]
        for some in (found, every)
    )
    assert best == expected
    if strong == 0.0 and len(set(origins.values())) > 50:
        assert len(set(asked)) < len(candidates.ids)
