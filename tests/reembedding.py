"""Libraries to re-embed, and models that take turns in them, for tests."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from embedder import Content, Modality
from embedder.interface import normalised
from embedder.registry import open_embedder
from embedder.toy import ToyEmbedder
from indexer import Library, Query, QueryPart


class Other(ToyEmbedder):
    """The toy with the dimensions in another order, or fewer of them; counts what it embeds."""

    def __init__(self, name: str, revision: str, dim: int | None = None) -> None:
        super().__init__()
        self.info = replace(self.info, name=name, revision=revision, dim=dim or self.info.dim)
        self.embedded: list[Content] = []
        self.before: Callable[[Content], None] = lambda content: None

    def _embed_batch(self, contents, role):
        for content in contents:
            if role == "document":
                self.before(content)
                self.embedded.append(content)
        return normalised(super()._embed_batch(contents, role)[:, ::-1][:, : self.info.dim])


class Shop:
    """Opens models by name as the registry does; keeps the last of each."""

    def __init__(self) -> None:
        self.opened: dict[str, Other] = {}
        self.instructions: list[Mapping[Modality, str] | None] = []
        self.before: Callable[[Content], None] = lambda content: None

    def __call__(self, spec, *, device=None, dtype=None, instructions=None):
        self.instructions.append(instructions)
        family, _, _ = spec.partition(":")
        if family not in ("same", "small", "version"):
            return open_embedder(spec)
        suffix = "" if not instructions else repr(sorted(instructions.items()))
        one = Other(spec, f"{family}{suffix}", 100 if family == "small" else None)
        one.before = self.before
        self.opened[spec] = one
        return one


def make_library(base: Path) -> Path:
    """Write files into `media` and a library of them, to be copied; return their folder."""
    folder = base / "media"
    folder.mkdir()
    for number in range(6):
        (folder / f"{number}.txt").write_text(f"text number {number} about red things")
    for name, colour in (("red", (220, 30, 30)), ("blue", (30, 60, 220))):
        Image.new("RGB", (64, 48), colour).save(folder / f"{name}.png")
    frames = [Image.new("RGB", (48, 48), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(
        folder / "moving.gif", save_all=True, append_images=frames[1:], duration=1500, loop=0
    )
    first, second = (Image.new("RGB", (48, 64), colour) for colour in ("red", "navy"))
    first.save(folder / "scan.tif", save_all=True, append_images=[second])
    with Library.open(base / "library", model="toy") as library:
        assert not library.ingest([folder]).failures
    return base


def found(library: Library, word: str = "red") -> list[str]:
    hits = library.search(Query((QueryPart(content=Content(text=word)),), limit=50))
    return [hit.item.name for hit in hits]


def segments(library: Library) -> list[object]:
    return [one for item in library.catalog.items() for one in library.catalog.segments(item.id)]


def is_whole(library: Library) -> bool:
    """Whether every vector in use is the model's own, in the tables and in what is searched."""
    every = segments(library)
    embedder, store = library.snapshot()
    vectors = library.catalog.vectors_of([one.id for one in every])
    for one, vector in zip(every, vectors, strict=True):
        score, nearest = store.search(vector, 1, one.kind, ids=np.array([one.id]))
        if nearest.tolist() != [one.id] or abs(score[0] - 1) > 0.01:
            return False
        if one.text and not one.page:
            expected = embedder.embed([Content(text=one.text)], "document")[0]
            if abs(float(expected @ vector) - 1) > 0.01:
                return False
    return len(store) == len({one.id for one in every}) == len(every)


def cancelled_after(library: Library, shop: Shop, count: int, model: str = "same"):
    """Run a re-embedding that is cancelled once `count` contents have been embedded."""
    cancel, seen = threading.Event(), []

    def before(content: Content) -> None:
        seen.append(content)
        if len(seen) == count:
            cancel.set()

    shop.before = before
    report = library.reembed(model, cancel=cancel, workers=1)
    shop.before = lambda content: None
    return report
