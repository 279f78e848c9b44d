"""How far a search's probabilities can be believed, as a user meets them.

    python -m benchmarks.probabilities [--model mini]

Two libraries are filled in a temporary folder, of things and of places: photos (JPEG), clips in
which a window moves over a photo (MP4), passages (text files) and pages (PDF), all with names that
say nothing. They are searched for captions, words and summaries of their own topics, which are
present, and for those of the other library's and for random letters, which are absent. A hit is
strong from p = ½ on. Topics, and the Debian packages that they need, are those of
trainer/mini/calibrate.py; queries that constants were fitted to are left out.

Printed for each kind of media alone and for all together: the shares of absent queries with a
strong hit, and with one that has none of the words; and the shares of present ones whose right hit
is strong, and is so among the first ten.
"""

import argparse
import tempfile
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pymupdf
from PIL import Image

from embedder import Modality
from embedder.media.kinds import Kind
from indexer import Library
from indexer.search.query import MODALITY, text_part
from indexer.search.ranking import MAX_HITS
from indexer.types import Hit, Query, Reason
from trainer.mini.calibrate import (
    PLACES,
    THINGS,
    Topic,
    nonsense_topics,
    noun_topics,
    package_topics,
    panned,
    photo_topics,
)

NOUNS, PACKAGES, NONSENSE = 120, 60, 100
CLIP_FRAMES, CLIP_SIDE = 24, 320  # at 12 frames a second; pixels
FIRST = 10
ROWS = {str(kind): frozenset({kind}) for kind in Kind} | {"all": frozenset(Kind)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What a library answers to one query.

    Attributes:
        present: Whether something in it is relevant.
        strong: Whether any hit is strong.
        alike: Whether one is without having words of the query.
        right: Whether a relevant one is strong.
        first: Whether a relevant one of the first ten is strong.
    """

    present: bool
    strong: bool
    alike: bool
    right: bool
    first: bool


def write_documents(topics: Sequence[Topic], folder: Path) -> None:
    """Write the documents of topics as files whose stems are the topics' positions."""
    for number, topic in enumerate(topics):
        stem = folder / f"{number:05}"
        if picture := topic.documents.get(Modality.IMAGE):
            picture.frames[0].save(stem.with_suffix(".jpg"), quality=92)
            write_clip(picture.frames[0], stem.with_suffix(".mp4"))
        if passage := topic.documents.get(Modality.TEXT):
            stem.with_suffix(".txt").write_text(passage.text or "", "utf-8")
            write_pdf(passage.text or "", stem.with_suffix(".pdf"))


def write_clip(image: Image.Image, path: Path) -> None:
    """Write a clip of two seconds in which a window moves over a picture."""
    frames = panned(image, CLIP_FRAMES)
    scale = CLIP_SIDE / max(frames[0].size)
    width, height = (2 * round(side * scale / 2) for side in frames[0].size)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 12, (width, height))
    for frame in frames:
        writer.write(cv2.cvtColor(np.asarray(frame.resize((width, height))), cv2.COLOR_RGB2BGR))
    writer.release()


def write_pdf(text: str, path: Path) -> None:
    """Write a page of text."""
    with pymupdf.open() as document:
        page = document.new_page(width=420, height=594)
        page.insert_textbox(pymupdf.Rect(40, 40, 380, 560), text, fontsize=10)
        document.save(path)


def ask(
    library: Library, own: Sequence[Topic], topics: Sequence[Topic]
) -> Iterator[tuple[str, Answer]]:
    """Search a library for topics in all their languages.

    Args:
        library: Where to look.
        own: Its topics, in the order of its files.
        topics: What to look for, of this library and of the other.

    Yields:
        The name of a row and an answer, for the hits of each kind and for those of all.
    """
    for topic in topics:
        right = {f"{number:05}" for number, one in enumerate(own) if one.name == topic.name}
        for content in topic.queries[Modality.TEXT]:
            hits = library.search(Query((text_part(content.text or ""),), limit=MAX_HITS))
            for row, kinds in ROWS.items():
                present = bool(right) and any(MODALITY[kind] in topic.documents for kind in kinds)
                if present or not right:  # other documents of its library may show it by chance
                    some = [hit for hit in hits if hit.item.kind in kinds]
                    yield row, answer(some, right, present)


def answer(hits: Sequence[Hit], right: Collection[str], present: bool) -> Answer:
    """Judge the hits of a query.

    Args:
        hits: The hits, best first.
        right: Stems of the files that are relevant.
        present: Whether something is relevant.
    """
    strong = [hit for hit in hits if not hit.weak]
    return Answer(
        present=present,
        strong=bool(strong),
        alike=any(Reason.WORDS not in hit.why for hit in strong),
        right=any(hit.item.path.stem in right for hit in strong),
        first=any(hit.item.path.stem in right for hit in strong[:FIRST]),
    )


def print_row(name: str, given: Sequence[Answer]) -> None:
    """Print the shares of absent and of present queries."""
    absent = [one for one in given if not one.present]
    present = [one for one in given if one.present]
    columns = [len(absent), *(_share(absent, field) for field in ("strong", "alike"))]
    columns += [len(present), *(_share(present, field) for field in ("right", "first"))]
    print(f"{name:8}" + "".join(f"{one:>12}" for one in columns), flush=True)


def _share(given: Sequence[Answer], field: str) -> str:
    return f"{sum(getattr(one, field) for one in given) / max(1, len(given)):.3f}"


def main() -> None:
    """Fill two libraries, search them, and print the shares."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--model", default="mini", help="specification of the model")
    given = parser.parse_args()
    topics = [*photo_topics(), *noun_topics(NOUNS), *package_topics(PACKAGES)]
    asked = [one for one in (*topics, *nonsense_topics(NONSENSE)) if not one.fitting]
    found: dict[str, list[Answer]] = {row: [] for row in ROWS}
    for name in (THINGS, PLACES):
        own = [one for one in topics if one.library == name]
        with tempfile.TemporaryDirectory() as folder:
            media = Path(folder) / "media"
            media.mkdir()
            write_documents(own, media)
            with Library.open(Path(folder) / "library", model=given.model) as library:
                library.ingest([media])
                for row, one in ask(library, own, asked):
                    found[row].append(one)
    heads = ("absent", "strong hit", "by likeness", "present", "right one", "in first 10")
    print(f"{'':8}" + "".join(f"{head:>12}" for head in heads))
    for row, answers in found.items():
        print_row(row, answers)


if __name__ == "__main__":
    main()
