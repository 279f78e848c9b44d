"""`ExtractiveAnswerer`: the sentences of the sources that answer best, without a language model."""

import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from embedder.content import Content, Modality
from embedder.interface import Embedder
from embedder.normalisation import words
from indexer.answers.sources import Piece, Source
from indexer.search.query import terms
from indexer.types import Reason

MAX_QUOTES = 3

_MAX_EMBEDDED = 64  # Sentences; `mini` takes about 10 ms of processor time for each.
_FIRST_SENTENCES = 2  # Of each source are compared even if they share no word with the question.
_MAX_WORDS = 60
_MIN_WORDS = 3
_LEAST_PROBABILITY = 0.5
_OVERLAP_WEIGHT = 2.0  # Log-odds of a sentence that has all words of the question.
_PARAGRAPH_END = re.compile(r"\n\s*\n|\f")
# The end of Chinese and Japanese sentences needs no white space after it.
_SENTENCE_END = re.compile(
    r"""(?<=[.!?…])\s+|(?<=[.!?…]["'»”’)\]])\s+|(?<=[\u3002\uff01\uff1f\uff61])"""
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    source: int
    position: int
    text: str
    before: str
    after: str


class ExtractiveAnswerer:
    """Quotes sentences word for word; pictures and clips without words are cited as evidence.

    Args:
        embedder: Of the library; compares the question with sentences.
        least: Probability from which on a sentence is quoted.
    """

    def __init__(self, embedder: Embedder, least: float = _LEAST_PROBABILITY) -> None:
        self._embedder, self._least = embedder, least

    def answer(
        self, question: str, sources: Sequence[Source], cancel: threading.Event | None = None
    ) -> Iterator[Piece]:
        """Yield at most `MAX_QUOTES` quotations, best first, then the pictures; see `Answerer`."""
        stopped = cancel or threading.Event()
        for sentence in self._best(question, sources):
            if stopped.is_set():
                return
            yield Piece(sentence.text, (sentence.source,), sentence.before, sentence.after)
        for source in sources:
            if stopped.is_set():
                return
            if Reason.PICTURE in source.hit.why and not source.text:
                yield Piece("", (source.number,))

    def _best(self, question: str, sources: Sequence[Source]) -> list[_Sentence]:
        asked = frozenset(terms(question))
        sentences = _prefiltered(
            [one for source in sources for one in _sentences_of(source)], asked
        )
        if not sentences:
            return []
        query = self._embedder.embed([Content(text=question)], "query")
        rows = self._embedder.embed([Content(text=one.text) for one in sentences], "document")
        calibration = self._embedder.info.calibrated(Modality.TEXT, Modality.TEXT)
        logits = calibration.logit((rows @ query.T)[:, 0])
        overlaps = np.array([_overlap(one.text, asked) for one in sentences], dtype=np.float32)
        scores = logits + _OVERLAP_WEIGHT * overlaps
        probabilities = 1 / (1 + np.exp(-np.clip(logits, -60, 60)))
        order = np.argsort(-scores, kind="stable")
        return [sentences[i] for i in order if probabilities[i] >= self._least][:MAX_QUOTES]


def sentences_in(text: str) -> list[str]:
    """Return the sentences of a text in order, each on one line.

    What goes on for too long without an end, such as a table, is divided at its lines.
    """
    found = []
    for paragraph in _PARAGRAPH_END.split(text):
        for sentence in _SENTENCE_END.split(paragraph):
            parts = sentence.splitlines() if len(sentence.split()) > _MAX_WORDS else [sentence]
            found += [line for part in parts if (line := " ".join(part.split()))]
    return found


def _sentences_of(source: Source) -> list[_Sentence]:
    found = ["", *sentences_in(source.text), ""]
    return [
        _Sentence(source.number, position, text, before, after)
        for position, (before, text, after) in enumerate(
            zip(found, found[1:], found[2:], strict=False)
        )
        if len(words(text)) >= _MIN_WORDS
    ]


def _prefiltered(sentences: Sequence[_Sentence], asked: frozenset[str]) -> list[_Sentence]:
    """Return what is worth embedding: with words of the question, or at the start of a source."""
    distinct = list({one.text: one for one in reversed(sentences)}.values())[::-1]
    ranked = sorted(
        distinct,
        key=lambda one: (
            -_overlap(one.text, asked) - 0.01 * (one.position < _FIRST_SENTENCES),
            one.position,
        ),
    )
    return ranked[:_MAX_EMBEDDED]


def _overlap(text: str, asked: frozenset[str]) -> float:
    """Return which fraction of the question's words a text has."""
    return len(asked.intersection(words(text))) / len(asked) if asked else 0.0
