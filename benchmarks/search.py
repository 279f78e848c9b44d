"""The vector store beside FAISS's plain flat index, on the same vectors in the same run.

    python benchmarks/search.py [--sets made-100000x384 made-1000000x384 glosses] [--queries 300]
                                [--threads 1] [--cache var/benchmarks]
                                [--plot docs/images/search-growth.png]

`made-NxD` are N made-up unit vectors around N/250 random directions, and queries drawn likewise.
`glosses` are the definitions of WordNet (Debian's wordnet-base), embedded by `mini` as documents,
and words of WordNet, embedded as queries; they are embedded once and kept in the cache. Truth is
what comparing with every float16 vector gives. One query at a time runs in one thread; `--threads`
are those that build. Files go into the cache, and their pages stay in memory as far as it reaches:
opening is measured five times, on files that were just written. Five million vectors of 384
dimensions take 11 GB of memory and 8 GB of disk. With faiss-gpu and a GPU, the store is measured
once more after it has copied its vectors there.
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
from indexer.vectors import FaissIndex, Growth, gpu_memory

WORDNET = Path("/usr/share/wordnet")
K = 10
THREADS = 8
CHUNK = 1 << 14
KEPT = 0.01

Search = Callable[[NDArray[np.float32]], Any]


def made(cache: Path, count: int, dim: int, queries: int) -> tuple[NDArray[np.float16], Vectors]:
    """Clustered vectors and queries, the same ones each time."""
    chance = np.random.default_rng(1)
    centres = chance.standard_normal((max(1, count // 250), dim), dtype=np.float32)

    def draw(number: int) -> Vectors:
        noise = chance.standard_normal((number, dim), dtype=np.float32)
        return normalised(centres[chance.integers(len(centres), size=number)] + 0.7 * noise)

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
    """Everything about one set."""
    count, dim = rows.shape
    only = np.sort(np.random.default_rng(2).choice(count, int(KEPT * count), replace=False))
    said: dict[str, Any] = {"vectors": count, "dim": dim, "threads": threads}
    said["flat"], truth, kept = beside(rows, queries, only)
    growth = Growth(threads=threads)
    store = FaissIndex(dim, growth=growth)
    ids = np.arange(count)
    said["adding"] = filled(
        rows, lambda at, piece: store.add(Kind.TEXT, ids[at : at + len(piece)], piece)
    )
    start = time.perf_counter()
    store.settle()
    said["building"] = time.perf_counter() - start
    with tempfile.TemporaryDirectory(dir=cache) as name:
        folder = Path(name)
        store.save(folder, "benchmark", 1)
        said["disk"] = sum(path.stat().st_size for path in folder.iterdir()) / count
        del store
        before = resident()
        store = opened(folder, dim, growth)
        said["memory"] = (resident() - before) / count
        described = store.describe()[Kind.TEXT]
        said["index"] = str(described)
        said["mapped"] = described.mapped / count
        said["opening"] = median(opening(folder, dim, growth, query) for query in queries[:5])
        said["store"] = asked(store, queries, truth)
        said["filtered"] = asked(store, queries, kept, only)
        if gpu_memory():
            said |= on_gpu(store, queries, truth)
        said["more"] = one_more(store, folder, queries[0])
    return said


def asked(
    store: FaissIndex,
    queries: Vectors,
    truth: NDArray[np.int64],
    only: NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """What the store takes, and the share of the truth that it finds."""

    def search(query: NDArray[np.float32]) -> NDArray[np.int64]:
        return store.search(query, K, Kind.TEXT, only)[1]

    return timed(search, queries) | {"recall": recall(truth, [search(one) for one in queries])}


def on_gpu(store: FaissIndex, queries: Vectors, truth: NDArray[np.int64]) -> dict[str, Any]:
    """What the store takes with a copy of its vectors on a GPU; nothing if none is made."""
    start = time.perf_counter()
    store.settle()
    seconds = time.perf_counter() - start
    if not (copied := store.describe()[Kind.TEXT].gpu):
        return {}
    return {"gpu": asked(store, queries, truth) | {"bytes": copied, "copying": seconds}}


def beside(
    rows: NDArray[np.float16], queries: Vectors, only: NDArray[np.int64]
) -> tuple[dict[str, float], NDArray[np.int64], NDArray[np.int64]]:
    """What Flat takes, and what it finds, without a filter and with one."""
    count, dim = rows.shape
    flat = faiss.IndexFlatIP(dim)
    flat.codes.resize(4 * dim * count)  # At once, since `add` would take twice the memory.
    flat.ntotal = count
    held = faiss.rev_swig_ptr(flat.get_xb(), count * dim).reshape(count, dim)
    for at in range(0, count, CHUNK):
        held[at : at + CHUNK] = rows[at : at + CHUNK]
    bits = np.packbits(np.isin(np.arange(count), only), bitorder="little")
    library: Any = faiss  # Its stubs do not know its Python layer.
    few = library.SearchParameters(sel=library.IDSelectorBitmap(bits))
    truth = flat.search(queries, K)[1]
    kept = flat.search(queries, K, params=few)[1]
    return timed(flat_search(flat), queries) | {"bytes": 4 * dim}, truth, kept


def opened(folder: Path, dim: int, growth: Growth) -> FaissIndex:
    """What was saved."""
    loaded = FaissIndex.load(folder, "benchmark", dim, growth=growth)
    assert loaded is not None
    return loaded[0]


def opening(folder: Path, dim: int, growth: Growth, query: NDArray[np.float32]) -> float:
    """Seconds until what was saved has answered a query."""
    start = time.perf_counter()
    opened(folder, dim, growth).search(query, K, Kind.TEXT)
    return time.perf_counter() - start


def one_more(store: FaissIndex, folder: Path, vector: NDArray[np.float32]) -> dict[str, float]:
    """What it takes to add a vector and save."""
    before = {path.name for path in folder.iterdir()}
    start = time.perf_counter()
    store.add(Kind.TEXT, np.array([10**9]), vector[None])
    store.save(folder, "benchmark", 2)
    seconds = time.perf_counter() - start
    new = [path for path in folder.iterdir() if path.name not in before]
    return {"seconds": seconds, "bytes": sum(path.stat().st_size for path in new)}


def told(name: str, said: dict[str, Any]) -> None:
    """Prints what was measured."""
    print(f"\n{name}: {said['vectors']:,} × {said['dim']}; {said['index']}")
    print(f"{'':10} recall@10   median ms     99 % ms  queries/s")
    for what in ("flat", "store", "filtered", "gpu"):
        if one := said.get(what):
            print(
                f"{what:10} {one.get('recall', 1):9.4f} {one['median']:11.3f} {one['late']:11.3f} "
                f"{one['rate']:10.0f}"
            )
    if one := said.get("gpu"):
        print(f"on the GPU: {one['bytes']:,} bytes, copied in {one['copying']:.1f} s")
    print(
        f"{said['flat']['median'] / said['store']['median']:.1f} × faster than flat; "
        f"bytes a vector: memory {said['memory']:.0f}, mapped {said['mapped']:.0f}, "
        f"disk {said['disk']:.0f}, flat {said['flat']['bytes']}; "
        f"seconds: adding {said['adding']:.1f}, building {said['building']:.1f} in "
        f"{said['threads']} threads, opening with a search {said['opening']:.4f}; one more: "
        f"{said['more']['seconds']:.3f} s and {said['more']['bytes']:,} bytes to save",
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
        ("store", "vector store"),
        ("filtered", "vector store, filter that keeps 1 %"),
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
            count, dim = map(int, name.removeprefix("made-").split("x"))
            rows, queries = made(given.cache, count, dim, given.queries)
        results[name] = measured(rows, queries, given.cache, given.threads)
        told(name, results[name])
        kept.write_text(json.dumps(results, indent=1))
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
