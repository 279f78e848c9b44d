"""The vector index beside FAISS's plain flat index, on the same vectors in the same run.

    python benchmarks/search.py [--sets made-100000x384 made-1000000x384 glosses] [--queries 300]
                                [--threads 1] [--cache var/benchmarks]
                                [--plot docs/images/search-growth.png]

`made-NxD` are N made-up unit vectors around N/250 random directions, and queries drawn likewise;
`hard-NxD` are hardly clustered, so that comparing all of them is best.
`glosses` are the definitions of WordNet (Debian's wordnet-base), embedded by `mini` as documents,
and words of WordNet, embedded as queries; they are embedded once and kept in the cache. Truth is
what comparing with every float16 vector gives. One query at a time runs in one thread; `--threads`
are those that build. Files go into the cache, and their pages stay in memory as far as it reaches:
opening is measured five times, on files that were just written. Five million vectors of 384
dimensions take 11 GB of memory and 8 GB of disk.
"""

import argparse
import ctypes
import gc
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from embedder import Content, open_embedder
from embedder.interface import Vectors, normalised
from embedder.media.kinds import Kind
from indexer.vectors import SearchFilter
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.partition import IndexPolicy

WORDNET = Path("/usr/share/wordnet")
K = 10
THREADS = 8
CHUNK = 1 << 14
KEPT = (0.01, 0.05, 0.2)
"""Shares that filters keep; a made-up folder for each."""

SPREADS = {"made": 0.7, "hard": 2.2}

Search = Callable[[NDArray[np.float32]], Any]


def made(
    cache: Path, count: int, dim: int, queries: int, spread: float = 0.7
) -> tuple[NDArray[np.float16], Vectors]:
    """Return clustered vectors and queries, the same ones each time."""
    chance = np.random.default_rng(1)
    centres = chance.standard_normal((max(1, count // 250), dim), dtype=np.float32)

    def draw(number: int) -> Vectors:
        noise = chance.standard_normal((number, dim), dtype=np.float32)
        return normalised(centres[chance.integers(len(centres), size=number)] + spread * noise)

    # In a file that has no name any more, so that the system may take its pages from memory.
    with tempfile.TemporaryFile(dir=cache) as file:
        rows = np.memmap(file, dtype=np.float16, mode="w+", shape=(count, dim))
    for start in range(0, count, CHUNK):
        rows[start : start + CHUNK] = draw(min(CHUNK, count - start))
    return rows, draw(queries)


def glosses(cache: Path, queries: int) -> tuple[NDArray[np.float16], Vectors]:
    """WordNet's definitions as `mini` embeds documents, and words as it embeds queries."""
    if not (cache / "glosses.npz").is_file():
        lines = [
            line.partition(" | ")
            for part in ("noun", "verb", "adj", "adv")
            for line in (WORDNET / f"data.{part}").read_text().splitlines()
            if not line.startswith("  ")
        ]
        chosen = np.random.default_rng(1).choice(len(lines), 2_000, replace=False)
        words = [lines[i][0].split(" ")[4].replace("_", " ") for i in chosen]
        with open_embedder("mini") as embedder:
            asked = embedder.embed([Content(text=word) for word in words], "query")
            rows = [
                embedder.embed(
                    [Content(text=g.strip()) for *_, g in lines[i : i + 256]], "document"
                )
                for i in range(0, len(lines), 256)
            ]
        cache.mkdir(parents=True, exist_ok=True)
        stored = np.concatenate(rows).astype(np.float16)
        np.savez(cache / "glosses.npz", rows=stored, queries=asked)
    held = np.load(cache / "glosses.npz")
    return held["rows"], held["queries"][:queries]


def filled(rows: NDArray[np.float16], add: Callable[[int, Vectors], None]) -> float:
    """Adds all rows in pieces; returns the seconds it took."""
    start = time.perf_counter()
    for at in range(0, len(rows), CHUNK):
        add(at, rows[at : at + CHUNK].astype(np.float32))
    return time.perf_counter() - start


def timed(search: Search, queries: Vectors) -> dict[str, float]:
    """Milliseconds of one query, and queries per second from some threads at once."""
    faiss.omp_set_num_threads(1)
    for query in queries[:20]:
        search(query)
    times = []
    for query in queries:
        start = time.perf_counter()
        search(query)
        times.append(1000 * (time.perf_counter() - start))
    with ThreadPoolExecutor(THREADS, initializer=lambda: faiss.omp_set_num_threads(1)) as pool:
        start = time.perf_counter()
        list(pool.map(search, queries))
        rate = len(queries) / (time.perf_counter() - start)
    return {"median": median(times), "late": quantiles(times, n=100)[-1], "rate": rate}


def resident() -> int:
    """Bytes in memory that belong to no file."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


def recall(truth: NDArray[np.int64], found: list[NDArray[np.int64]]) -> float:
    """The share of the true ones that were found."""
    return float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))


def flat_search(index: Any, only: Any = None) -> Search:
    """A search for the nearest by a FAISS index: their ids."""
    return lambda query: index.search(query[None], K, params=only)[1][0]


def measured(
    rows: NDArray[np.float16], queries: Vectors, cache: Path, threads: int
) -> dict[str, Any]:
    """Return everything about one set."""
    count, dim = rows.shape
    chance = np.random.default_rng(2)
    folders: NDArray[np.int64] = chance.choice(
        np.arange(len(KEPT) + 1), count, p=[1 - sum(KEPT), *KEPT]
    )
    said: dict[str, Any] = {"vectors": count, "dim": dim, "threads": threads}
    said["flat"], truth, kept = beside(rows, queries, folders)
    policy = IndexPolicy(threads=threads)
    index = FaissIndex(dim, policy=policy)
    ids = np.arange(count)
    said["adding"] = filled(
        rows, lambda at, piece: index.add(Kind.TEXT, ids[at : at + len(piece)], piece)
    )
    index.set_holders(Kind.TEXT, ids, folders.astype(np.int32), ids)
    start = time.perf_counter()
    index.settle()
    said["building"] = time.perf_counter() - start
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        index.save(folder, "benchmark", 1)
        said["disk"] = sum(path.stat().st_size for path in folder.iterdir()) / count
        del index
        before = resident()
        index = opened(folder, dim, policy)
        said["memory"] = (resident() - before) / count
        described = index.describe()[Kind.TEXT]
        said["mapped"] = described.mapped / count
        said["opening"] = median(opening(folder, dim, policy, query) for query in queries[:5])
        said["index alone"] = median(opening(folder, dim, policy) for _ in range(5))
        said["index"], said["search"] = str(described), asked(index, queries, truth)
        for number, share in enumerate(KEPT, 1):
            where = SearchFilter(frozenset({number}))
            said[f"{share:.0%} kept"] = asked(index, queries, kept[number - 1], where)
        said["more"] = one_more(index, folder, queries[0])
    return said


def asked(
    index: FaissIndex,
    queries: Vectors,
    truth: NDArray[np.int64],
    where: SearchFilter | None = None,
) -> dict[str, float]:
    """Return what the index takes, and the share of the truth that it finds."""

    def search(query: NDArray[np.float32]) -> NDArray[np.int64]:
        return index.search(query, K, Kind.TEXT, where)[1]

    return timed(search, queries) | {"recall": recall(truth, [search(one) for one in queries])}


def beside(
    rows: NDArray[np.float16], queries: Vectors, folders: NDArray[np.int64]
) -> tuple[dict[str, float], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Return what Flat takes, and what it finds, without a filter and in each folder."""
    count, dim = rows.shape
    flat = faiss.IndexFlatIP(dim)
    flat.codes.resize(4 * dim * count)  # At once, since `add` would take twice the memory.
    flat.ntotal = count
    held = faiss.rev_swig_ptr(flat.get_xb(), count * dim).reshape(count, dim)
    for at in range(0, count, CHUNK):
        held[at : at + CHUNK] = rows[at : at + CHUNK]
    library: Any = faiss  # Its stubs do not know its Python layer.
    truth, kept = flat.search(queries, K)[1], []
    for number in range(1, len(KEPT) + 1):
        bits = np.packbits(folders == number, bitorder="little")
        few = library.SearchParameters(sel=library.IDSelectorBitmap(bits))
        kept.append(flat.search(queries, K, params=few)[1])
    return timed(flat_search(flat), queries) | {"bytes": 4 * dim}, truth, kept


def opened(folder: Path, dim: int, policy: IndexPolicy) -> FaissIndex:
    """What was saved."""
    loaded = FaissIndex.load(folder, "benchmark", dim, policy=policy)
    assert loaded is not None
    return loaded[0]


def opening(
    folder: Path, dim: int, policy: IndexPolicy, query: NDArray[np.float32] | None = None
) -> float:
    """Return the seconds until what was saved is open, or has answered a query."""
    start = time.perf_counter()
    index = opened(folder, dim, policy)
    if query is not None:
        index.search(query, K, Kind.TEXT)
    return time.perf_counter() - start


def one_more(index: FaissIndex, folder: Path, vector: NDArray[np.float32]) -> dict[str, float]:
    """Return what it takes to add a vector and save, the median of some."""
    times, before = [], _bytes_by_file(folder)
    for number in range(9):
        start = time.perf_counter()
        index.add(Kind.TEXT, np.array([10**9 + number]), vector[None])
        index.save(folder, "benchmark", 2 + number)
        times.append(time.perf_counter() - start)
    after = _bytes_by_file(folder)
    written = sum(max(0, size - before.get(name, 0)) for name, size in after.items()) // len(times)
    return {"seconds": median(times), "bytes": written}


def _bytes_by_file(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


def print_result(name: str, said: dict[str, Any]) -> None:
    """Prints what was measured."""
    print(f"\n{name}: {said['vectors']:,} × {said['dim']}; {said['index']}")
    print(f"{'':10} recall@10   median ms     99 % ms  queries/s")
    for what in ("flat", "search", *(f"{share:.0%} kept" for share in KEPT)):
        if one := said.get(what):
            print(
                f"{what:10} {one.get('recall', 1):9.4f} {one['median']:11.3f} {one['late']:11.3f} "
                f"{one['rate']:10.0f}"
            )
    print(
        f"{said['flat']['median'] / said['search']['median']:.1f} × faster than flat; "
        f"bytes a vector: memory {said['memory']:.0f}, mapped {said['mapped']:.0f}, "
        f"disk {said['disk']:.0f}, flat {said['flat']['bytes']}; "
        f"seconds: adding {said['adding']:.1f}, building {said['building']:.1f} in "
        f"{said['threads']} threads, opening {said['index alone']:.4f}, "
        f"with a search {said['opening']:.4f}; one more: "
        f"{said['more']['seconds']:.4f} s and {said['more']['bytes']:,} bytes to save",
        flush=True,
    )


def plot(results: dict[str, dict[str, Any]], path: Path) -> None:
    """How the time of a query grows with the size, for sets of 384 dimensions."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = sorted(
        (one for one in results.values() if one["dim"] == 384), key=lambda o: o["vectors"]
    )
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    sizes = [one["vectors"] for one in chosen]
    for what, label in (
        ("flat", "FAISS Flat"),
        ("search", "vector index"),
        ("1% kept", "vector index, filter that keeps 1 %"),
    ):
        axes.plot(sizes, [one[what]["median"] for one in chosen], marker="o", label=label)
    axes.set(xscale="log", yscale="log", xlabel="vectors of 384 dimensions")
    axes.set_ylabel("median of one query, ms")
    axes.grid(visible=True, alpha=0.3)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measures each set and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--sets", nargs="+", default=["made-100000x384", "made-1000000x384"])
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, default=Path("var/benchmarks"))
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    given.cache.mkdir(parents=True, exist_ok=True)
    kept = given.cache / "search.json"
    results = json.loads(kept.read_text()) if kept.is_file() else {}
    for name in given.sets:
        if name == "glosses":
            rows, queries = glosses(given.cache, given.queries)
        else:
            how, _, size = name.partition("-")
            count, dim = map(int, size.split("x"))
            rows, queries = made(given.cache, count, dim, given.queries, SPREADS[how])
        results[name] = measured(rows, queries, given.cache, given.threads)
        print_result(name, results[name])
        kept.write_text(json.dumps(results, indent=1))
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
