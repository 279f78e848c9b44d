"""Clustered vectors for the tests of inverted lists, and stores that hold them."""

from pathlib import Path

import numpy as np

from embedder.interface import normalised
from embedder.media.kinds import Kind
from indexer.vectors import FaissIndex, Growth

DIM = 32
COUNT = 6_000
SMALL = Growth(
    exact_components=DIM * 1_000, questions=48, rounds=4, compared=200, sifted=100, margin=1
)
FOUND = 0.98  # What is promised; the store aims at `Growth.recall`, which is above it.


def clustered(count: int, seed: int = 0) -> np.ndarray:
    chance = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(60, DIM))
    noise = chance.normal(size=(count, DIM))
    rows = normalised((centres[chance.integers(60, size=count)] + 0.6 * noise).astype(np.float32))
    return rows.astype(np.float16).astype(np.float32)


ROWS = clustered(COUNT)
IDS = np.arange(10, 10 + 2 * COUNT, 2)
QUERIES = clustered(60, seed=5)


def filled(growth: Growth = SMALL, count: int = COUNT) -> FaissIndex:
    made = FaissIndex(DIM, growth=growth)
    made.add(Kind.IMAGE, IDS[:count], ROWS[:count])
    return made


def kept(folder: Path) -> Path:
    """The folder, with a store saved in it that has its lists."""
    made = filled()
    assert made.settle()
    made.save(folder, "me", 1)
    return folder


def loaded(folder: Path, growth: Growth = SMALL) -> FaissIndex:
    found = FaissIndex.load(folder, "me", DIM, growth=growth)
    assert found is not None
    return found[0]


def index_of(one: FaissIndex) -> str:
    return one.describe()[Kind.IMAGE].index


def recall(
    one: FaissIndex, rows: np.ndarray, ids: np.ndarray, only: np.ndarray | None = None, k: int = 10
) -> float:
    """The share of the k nearest that are found, by a comparison with every row."""
    kept = np.ones(len(ids), dtype=bool) if only is None else np.isin(ids, only)
    shares = []
    for query in QUERIES:
        truth = ids[kept][np.argsort(-(rows[kept] @ query))[:k]]
        shares.append(np.isin(truth, one.search(query, k, Kind.IMAGE, only)[1]).mean())
    return float(np.mean(shares))
