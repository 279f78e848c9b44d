"""Sharing the model between searches and an ingest."""

import threading
from collections.abc import Sequence
from pathlib import Path
from queue import Queue
from time import sleep

import numpy as np
import pytest
from PIL import Image

from embedder import Content, Role
from embedder.interface import EmbedError, Vectors
from embedder.toy import ToyEmbedder
from indexer import Library, Query
from indexer.model import SearchPriority, SharedEmbedder
from indexer.search.query import text_part


class Held(ToyEmbedder):
    """Records each call, and waits until the test lets it continue."""

    def __init__(self, role: Role) -> None:
        super().__init__()
        self._held_role = role
        self.calls: Queue[list[str | None]] = Queue()
        self.let = threading.Semaphore(0)

    def _embed_batch(self, contents: Sequence[Content], role: Role) -> Vectors:
        if role == self._held_role:
            self.calls.put([one.text for one in contents])
            assert self.let.acquire(timeout=30)
        for position, content in enumerate(contents):
            if content.text == "bad":
                raise EmbedError(position, "it is bad")
        return super()._embed_batch(contents, role)


class Querying(threading.Thread):
    """A thread that embeds a query, and its result."""

    def __init__(self, embedder: SharedEmbedder, text: str) -> None:
        super().__init__()
        self._embedder = embedder
        self._content = Content(text=text)
        self.row: Vectors | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        """The body of the thread."""
        try:
            self.row = self._embedder.embed([self._content], "query")[0]
        except EmbedError as error:
            self.error = error


def wait_until_queued(shared: SharedEmbedder, count: int) -> None:
    while len(shared._waiting) < count:
        sleep(0.001)


def test_waiting_queries_are_embedded_together():
    held = Held("query")
    shared = SharedEmbedder(held, SearchPriority())
    first = Querying(shared, "red")
    assert held.calls.get(timeout=30) == ["red"]
    texts = ["blue", "green", "a dog", "grey"]
    others = [Querying(shared, text) for text in texts]
    wait_until_queued(shared, len(texts))
    held.let.release(2)
    for one in (first, *others):
        one.join(30)
    assert sorted(held.calls.get(timeout=30)) == sorted(texts)
    assert held.calls.empty()
    for text, one in zip(("red", *texts), (first, *others), strict=True):
        alone = ToyEmbedder().embed([Content(text=text)], "query")[0]
        np.testing.assert_array_equal(one.row, alone)


def test_failing_query_fails_alone():
    held = Held("query")
    shared = SharedEmbedder(held, SearchPriority())
    first = Querying(shared, "red")
    held.calls.get(timeout=30)
    others = [Querying(shared, text) for text in ("blue", "bad", "green")]
    wait_until_queued(shared, len(others))
    held.let.release(5)  # shared, which fails, and then each alone
    for one in (first, *others):
        one.join(30)
    assert [one.row is None for one in others] == [False, True, False]
    assert isinstance(others[1].error, EmbedError)
    assert others[1].error.position == 0


def test_documents_wait_for_a_search():
    priority, held = SearchPriority(max_wait=60.0), Held("document")
    documents = SharedEmbedder(held, priority)
    held.let.release()
    work = threading.Thread(
        target=lambda: documents.embed([Content(text="red")], "document"), daemon=True
    )
    with priority.search():
        work.start()
        work.join(0.2)
        assert held.calls.empty()
    assert held.calls.get(timeout=30) == ["red"]
    work.join(30)


def test_documents_continue_despite_searches():
    priority, held = SearchPriority(max_wait=0.01), Held("document")
    texts = [str(number) for number in range(11)]
    held.let.release(99)
    with priority.search():
        contents = [Content(text=text) for text in texts]
        rows = SharedEmbedder(held, priority).embed(contents, "document")
    whole = ToyEmbedder().embed([Content(text=text) for text in texts], "document")
    np.testing.assert_array_equal(rows, whole)
    assert [len(held.calls.get()) for _ in range(3)] == [4, 4, 3]


def test_documents_come_in_larger_batches_between_searches():
    priority, held = SearchPriority(recent=0.0), Held("document")
    held.let.release(9)
    with priority.search():
        pass
    SharedEmbedder(held, priority).embed([Content(text="red")] * 40, "document")
    assert [len(held.calls.get()) for _ in range(3)] == [16, 16, 8]


def test_documents_without_searches_are_one_batch():
    held = Held("document")
    held.let.release(9)
    documents = SharedEmbedder(held, SearchPriority())
    assert len(documents.embed([Content(text="red")] * 11, "document")) == 11
    assert len(held.calls.get()) == 11
    assert documents.embed([], "document").shape == (0, held.info.dim)


def test_document_error_names_its_position():
    priority, held = SearchPriority(max_wait=0.01), Held("document")
    contents = [Content(text=text) for text in ("a", "b", "c", "d", "e", "bad")]
    held.let.release(9)
    with priority.search(), pytest.raises(EmbedError) as caught:
        SharedEmbedder(held, priority).embed(contents, "document")
    assert caught.value.position == 5


def test_search_while_an_ingest_embeds(tmp_path: Path):
    held = Held("document")
    for name in ("red", "blue"):
        (tmp_path / "first").mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), name).save(tmp_path / "first" / f"{name}.png")
    with Library.open(tmp_path / "library", embedder=held) as library:
        held.let.release(9)
        library.ingest([tmp_path / "first"])
        while held.let.acquire(blocking=False):
            pass
        while not held.calls.empty():
            held.calls.get()
        (tmp_path / "second").mkdir()
        Image.new("RGB", (40, 30), "green").save(tmp_path / "second" / "green.png")
        ingest = threading.Thread(target=library.ingest, args=([tmp_path / "second"],))
        ingest.start()
        held.calls.get(timeout=30)  # The ingest is in the middle of embedding, and stays there.
        assert library.search(Query((text_part("red"),)))[0].item.name == "red.png"
        assert ingest.is_alive()
        held.let.release(9)
        ingest.join(30)
        assert library.search(Query((text_part("green"),)))[0].item.name == "green.png"
