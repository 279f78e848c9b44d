"""Evaluate a model on retrieval sets from disk.

`python -m trainer.evaluate --spec SPEC --data DIR…`: each DIR is a set, or a folder of sets, in one
of the layouts that `trainer.evaluation.formats` describes.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from embedder import EmbedderError, open_embedder
from embedder.interface import Embedder
from trainer.cli import positive_int
from trainer.data.examples import Unreadable
from trainer.evaluation.formats import is_mmeb, is_native, read_mmeb, read_native
from trainer.evaluation.scoring import OtherModel, evaluate, scored, write_report, write_result
from trainer.evaluation.sets import BadSet, EvaluationSet

_log = logging.getLogger(__name__)


def find_sets(
    folders: Sequence[Path], images: Path | None, cache: Path, limit: int | None = None
) -> Iterator[EvaluationSet]:
    """Yield the evaluation sets that folders are, or have directly below them.

    Args:
        folders: Of a set or of sets.
        images: Folder that MMEB's picture paths start from; None for each set's own.
        cache: Folder for pictures embedded in data files.
        limit: Most queries of a set.

    Raises:
        BadSet: a folder has no set, a set cannot be used, or two have the same name.
        Unreadable: a file of a set cannot be read.
    """
    seen: dict[str, Path] = {}
    for folder in folders:
        below = sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
        if is_native(folder) or (folder.is_dir() and _has_data(folder) and is_mmeb(folder)):
            found = [folder]
        else:
            found = [one for one in below if is_native(one) or is_mmeb(one)]
        if not found:
            raise BadSet(
                f"{folder} has no evaluation set: neither queries.jsonl nor rows.jsonl, nor "
                f"MMEB's rows or queries, corpus and qrels, in it or directly below it"
            )
        for one in found:
            given = read_native(one, images) if is_native(one) else read_mmeb(one, images, cache)
            if given.name in seen:
                raise BadSet(
                    f"{one} and {seen[given.name]} are both called {given.name}: "
                    f'state another "name" in the dataset.json of one of them'
                )
            seen[given.name] = one
            yield given.limited(limit)


def _has_data(folder: Path) -> bool:
    """Return whether a folder itself has data files, or the parts of a corpus."""
    names = {one.name.partition(".")[0].partition("-")[0] for one in folder.iterdir()}
    return {"queries", "corpus", "qrels"} <= names or any(
        one.suffix in (".parquet", ".jsonl") for one in folder.iterdir()
    )


def validation_score(embedder: Embedder, sets: Sequence[EvaluationSet]) -> float:
    """Return the mean score over datasets, from 0 to 1, and write nothing.

    Raises:
        BadSet: a set has no query that can be embedded.
    """
    return fmean(evaluate(embedder, one).score for one in sets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status."""
    given = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    out: Path = given.out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with open_embedder(given.spec, device=given.device, dtype=given.dtype) as embedder:
            sets = find_sets(given.data, given.images, out / "pictures", given.limit)
            rows = [_row(embedder, one, out) for one in sets]
        print(write_report(out, rows), end="")
    except (BadSet, EmbedderError, OtherModel, OSError, Unreadable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; run the command again to do the remaining sets", file=sys.stderr)
        return 130
    print(f"written to {out}: scores.md, scores.png, and *_score.json, *_pred.jsonl by dataset")
    return 0


def _row(embedder: Embedder, given: EvaluationSet, out: Path) -> dict[str, Any]:
    """Return the set's score record; compute and write it if it is not there."""
    known = scored(out, given, embedder.info)
    if known is not None:
        print(f"{given.name}: already done, {known['score']:.4f}", file=sys.stderr)
        return known
    result = evaluate(embedder, given, shown=True)
    for one in result.broken:
        _log.warning("%s: %s: %s", given.name, one.where, one.reason)
    row = write_result(out, result, embedder.info)
    broken = f", {len(result.broken)} broken" if result.broken else ""
    print(f"{given.name}: {row['metric']} {row['score']:.4f}{broken}", file=sys.stderr)
    return row


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m trainer.evaluate",
        description="Evaluate a model on retrieval sets from disk. Finished sets are skipped.",
    )
    parser.add_argument("--spec", required=True, help="the model: mini, rzen, rzen:FOLDER")
    parser.add_argument("--data", required=True, nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--out", type=Path, default=Path("var/evaluation"), metavar="DIR")
    parser.add_argument("--images", type=Path, metavar="DIR", help="folder of MMEB's pictures")
    parser.add_argument(
        "--limit", type=positive_int, metavar="N", help="use only the first N queries of each set"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: the best)")
    parser.add_argument("--dtype", help="float32, bfloat16 or float16")
    return parser


if __name__ == "__main__":
    sys.exit(main())
