"""Measure what answers do for the order of the other documents, see `indexer.search.feedback`.

    python -m benchmarks.feedback
    python -m benchmarks.feedback --model siglip2

The documents are the docstrings of some modules of Python's standard library. Each module is asked
for in words that hardly occur there; whether a document is of the module is the answer. Documents
nearest the border are answered, one after the other; the average precision is that of the rest.
"""

import argparse
import importlib
import inspect
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from embedder import Content, Modality, open_embedder
from embedder.interface import Embedder
from indexer.search.feedback import LogOdds, adjusted, centred

TOPICS = {
    "turtle": "drawing on the screen",
    "datetime": "dates and times",
    "zipfile": "compressed archives",
    "http.client": "requests over the web",
    "decimal": "exact numbers",
    "threading": "doing several things at the same time",
    "sqlite3": "databases",
    "email.message": "mail messages",
    "random": "chance",
    "pathlib": "files and folders on the disk",
    "statistics": "averages and spread",
    "socket": "connections between machines",
    "logging": "messages of programs for operators",
    "argparse": "options of commands",
}
_PER_MODULE = 30
_LENGTHS = slice(80, 600)  # Characters of a docstring: shorter ones say too little.
_BATCH = 32


def docstrings(module: str) -> list[str]:
    """Return some docstrings of what a module defines."""
    return sorted(set(_documented(module)))[:_PER_MODULE]


def _documented(module: str) -> Iterator[str]:
    for _, found in inspect.getmembers(importlib.import_module(module)):
        within = inspect.getmembers(found) if inspect.isclass(found) else []
        for one in (found, *(member for _, member in within)):
            home = getattr(one, "__module__", None)
            text = (
                inspect.getdoc(one)
                if callable(one) and home in {module, f"_{module}", None}
                else None
            )
            if (
                text
                and len(text) > _LENGTHS.start
                and not getattr(one, "__name__", "").startswith("__")
            ):
                yield text[: _LENGTHS.stop]


def searched(embedder: Embedder, texts: list[str]) -> tuple[NDArray[np.float32], LogOdds]:
    """Return the vectors (n, dim) of texts, and the log-odds (topics, n) of each for each topic."""
    documents = [Content(text=text, modality=Modality.TEXT) for text in texts]
    vectors = np.concatenate(
        [
            embedder.embed(documents[start : start + _BATCH], role="document")
            for start in range(0, len(documents), _BATCH)
        ]
    )
    queries = embedder.embed([Content(text=words) for words in TOPICS.values()], role="query")
    calibration = embedder.info.calibrated(Modality.TEXT, Modality.TEXT)
    return vectors, np.clip(calibration.logit(queries @ vectors.T), -6, 6)


def precision_of_the_rest(
    log_odds: LogOdds, vectors: NDArray[np.float32], right: NDArray[np.bool_], answers: int
) -> tuple[float, float] | None:
    """Return the average precision of what was not answered, before and after the answers."""
    rows: list[int] = []
    now = log_odds
    for _ in range(answers):
        distance = np.abs(now)
        distance[rows] = np.inf
        rows.append(int(np.argmin(distance)))
        now = adjusted(log_odds, vectors, np.array(rows), right[rows])
    rest = np.setdiff1d(np.arange(len(right)), rows)
    if not right[rest].any():
        return None
    return _precision(log_odds[rest], right[rest]), _precision(now[rest], right[rest])


def _precision(scores: LogOdds, right: NDArray[np.bool_]) -> float:
    ranked = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def main() -> None:
    """Print the average precision with several numbers of answers."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="mini", help="the model's specification")
    found = [docstrings(module) for module in TOPICS]
    topics = np.repeat(np.arange(len(found)), [len(texts) for texts in found])
    with open_embedder(parser.parse_args().model) as embedder:
        vectors, log_odds = searched(embedder, [text for texts in found for text in texts])
    apart = centred(vectors)
    print(f"{len(topics)} documents of {len(TOPICS)} modules")
    for answers in (5, 10, 20):
        measured = [
            precision_of_the_rest(row, apart, topics == topic, answers)
            for topic, row in enumerate(log_odds)
        ]
        pairs = np.array([pair for pair in measured if pair is not None])
        before, after = pairs.mean(axis=0)
        better = int((pairs[:, 1] > pairs[:, 0]).sum())
        print(
            f"{answers:2} answers: average precision {before:.3f} before, {after:.3f} after; "
            f"better for {better} of {len(pairs)} topics"
        )


if __name__ == "__main__":
    main()
