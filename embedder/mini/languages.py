"""Languages of `mini`: texts that are not English, in the space of the English encoder.

The text space is that of an English encoder (MiniLM). A second encoder, trained on sixteen
languages (Universal Sentence Encoder multilingual), embeds sentences that mean the same near each
other in whatever language they are. A linear map, learned from English texts alone, takes its
vectors to where the English encoder puts that meaning. Pictures and English texts stay where they
are:

- A text of English words keeps its vector; the second encoder is not even loaded for it.
- Of others, both encoders are asked. Where they agree, the more so if half of the words are
  English, the text was English after all, and the finer English encoder has the say; where they do
  not, it was not, and the other one has.
- What neither understands, such as emoji and random letters, gets zeros: it is like nothing.

Learned by trainer/mini/languages.py.
"""

import io
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors, normalised
from embedder.mini.text import SentenceEncoder

UNKNOWN = 0
"""Id of the multilingual tokenizer's token for characters that it does not know."""

_WORDS = re.compile(r"[^\W\d_]+")
_MIN_ENGLISH, _MARGIN = 0.6, 0.9
"""Share of English words in a long English text; what one of n words needs above it, times √n."""


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without numbers and punctuation."""
    return _WORDS.findall(text.lower())


def hashed(words: Sequence[str]) -> NDArray[np.uint32]:
    """Return 32 bits for each word: less to keep and to load than a list of words."""
    return np.array([crc32(word.encode()) for word in words], dtype=np.uint32)


def is_english(words: NDArray[np.bool_]) -> bool:
    """Return whether enough words of a text are English for it to be English.

    Of a short text all have to be, since words of other languages look like English ones here and
    there: of those in French captions, every other one does.
    """
    needed = _MIN_ENGLISH * words.size + _MARGIN * words.size**0.5
    return words.size > 0 and int(words.sum()) >= min(needed, words.size)


@dataclass(frozen=True, slots=True)
class LanguageMap:
    """What was learned about both encoders.

    Attributes:
        words: Uint32 (w,): the English words, `hashed`, ascending.
        lengths: Uint8 (128000,): bytes in UTF-8 that the letters and digits of each token of the
            multilingual encoder have.
        projection: Float32 (513, 384): a multilingual vector, with a 1 appended, to the text space.
        word_weight: How much the share of English words counts beside the cosine between both
            encoders.
        foreign: Both together up to which a text is not English.
        agreed: Both together from which on it is English; above `foreign`.
        fluency: Bytes to a token from which on the multilingual encoder understands a text.
    """

    words: NDArray[np.uint32]
    lengths: NDArray[np.uint8]
    projection: Vectors
    word_weight: float
    foreign: float
    agreed: float
    fluency: float

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Read the bytes of an npz file; pickled arrays are refused."""
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            scalars = ("word_weight", "foreign", "agreed", "fluency")
            numbers = {name: float(arrays[name]) for name in scalars}
            return cls(
                words=np.asarray(arrays["words"], dtype=np.uint32),
                lengths=np.asarray(arrays["lengths"], dtype=np.uint8),
                projection=np.asarray(arrays["projection"], dtype=np.float32),
                **numbers,
            )

    def english_words(self, text: str) -> NDArray[np.bool_]:
        """Return which words of a text are English, some perhaps in the plural."""
        words = words_of(text)
        return self._knows(words) | self._knows([word.removesuffix("s") for word in words])

    def _knows(self, words: Sequence[str]) -> NDArray[np.bool_]:
        hashes = hashed(words)
        places = np.searchsorted(self.words, hashes).clip(max=len(self.words) - 1)
        return np.asarray(self.words[places] == hashes)

    def is_fluent(self, ids: Sequence[int]) -> bool:
        """Return whether the multilingual encoder understands a text.

        It cuts words that it knows into few long tokens, and others into many short ones. Counted
        in bytes, a Chinese character weighs as much as three letters, about what it says.
        """
        numbers = np.asarray(ids, dtype=np.int64)
        found = self.lengths[numbers]
        counted = (found > 0) | (numbers == UNKNOWN)
        return bool(counted.any()) and float(found[counted].mean()) >= self.fluency

    def projected(self, multilingual: Vectors) -> Vectors:
        """Map multilingual vectors (n, 512) into the text space, as unit rows (n, 384)."""
        return normalised(multilingual @ self.projection[:-1] + self.projection[-1])

    def merged(
        self,
        english: Vectors,
        multilingual: Vectors,
        shares: NDArray[np.float32],
        fluent: NDArray[np.bool_],
    ) -> Vectors:
        """Choose between both encoders' vectors of texts.

        Args:
            english: Unit rows (n, 384) by the English encoder.
            multilingual: Unit rows (n, 512) by the other one.
            shares: Of their words, the share (n,) that is English.
            fluent: Which texts (n,) the other one understands.

        Returns:
            Float32 (n, 384): unit rows, or zeros for a text that neither understands.
        """
        mapped = self.projected(multilingual)
        evidence = (english * mapped).sum(axis=1) + self.word_weight * shares
        trust = np.clip((evidence - self.foreign) / (self.agreed - self.foreign), 0, 1)[:, None]
        mixed = normalised(trust * english + (1 - trust) * mapped)
        understood = np.where(fluent[:, None], mixed, np.float32(0))
        return np.where(trust == 1, english, understood)


class Languages:
    """Corrects the English encoder's vectors of texts that are not English.

    Guarantees:
        The multilingual encoder loads when the first text needs it, once, under a lock.
    """

    def __init__(self, known: LanguageMap, load: Callable[[], SentenceEncoder]) -> None:
        self.known = known
        self._load = load
        self._lock = threading.Lock()
        self._encoder: SentenceEncoder | None = None

    def corrected(self, texts: Sequence[str], vectors: Vectors, threads: int = 1) -> Vectors:
        """Return the vectors of texts in any language.

        Args:
            texts: The texts.
            vectors: Unit rows (n, 384) by the English encoder.
            threads: CPU threads to use.

        Returns:
            Float32 (n, 384): unit rows, or zeros for a text that is not understood.
        """
        words = [self.known.english_words(text) for text in texts]
        others = [i for i, own in enumerate(words) if not is_english(own)]
        if not others:
            return vectors
        encoder = self._loaded()
        tokens = encoder.tokenize([texts[i] for i in others])
        rows = encoder.embed(tokens, threads)
        fluent = np.array([self.known.is_fluent(ids) for ids in tokens])
        shares = np.array([words[i].mean() if words[i].size else 0.0 for i in others], np.float32)
        found = vectors.copy()
        found[others] = self.known.merged(vectors[others], rows, shares, fluent)
        return found

    def _loaded(self) -> SentenceEncoder:
        with self._lock:
            if self._encoder is None:
                self._encoder = self._load()
            return self._encoder
