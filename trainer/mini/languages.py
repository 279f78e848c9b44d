"""Learn what `mini` does with texts that are not English: the arrays of languages.npz.

The map from the multilingual encoder to the text space is learned from English alone, from names,
glosses and examples of WordNet: that the encoder puts translations near each other does the rest.
Ridge regression draws what it is unsure of to the mean, and vectors near the mean are a bit like
everything: 6 to 10 % of unrelated photos were strong hits of a caption, where it is 0.5 % in
English. So deviations from the mean are stretched to the length they have for the English encoder,
and half of the mean is dropped. That leaves 0.4 to 1.3 %, and ranks better as well.

Constants were chosen on the translated captions of our photos (captions.tsv, within the first
five), on names of emoji in fifteen languages (Unicode CLDR, the English name first), and on 150
summaries of Debian packages, whose words are often in no dictionary (the description first):

    agreement                     summaries, en   captions, 7 lang.   emoji, 15 lang.
    the English encoder alone         0.773            0.087               0.108
    0.20 to 0.40                      0.773            0.423               0.412
    0.35 to 0.55                      0.580            0.440               0.444
    and 0.3 words, 0.40 to 0.60       0.767            0.442               0.449
    and 0.5 words, 0.45 to 0.60       0.773            0.429               0.440

Of single words of random letters 33 % are as fluent as is asked for, of two 11 %, of three 4 %; of
names of emoji 96 % (Chinese, Korean) to 100 % (Arabic, Russian, Thai).
"""

import random
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedder.interface import Vectors
from embedder.mini.embedder import Weights, load_multilingual
from embedder.mini.languages import UNKNOWN, hashed, words_of
from embedder.mini.text import SentenceEncoder
from trainer.mini.features import TextEncoder
from trainer.mini.words import FOLDER, records

RIDGE = 0.05  # per thousand texts
MEAN_KEPT = 0.5
WORD_WEIGHT, FOREIGN, AGREED = 0.3, 0.4, 0.6
FLUENCY = 2.0  # bytes a token
MIN_GLOSSES = 3
"""Glosses and examples of WordNet that have a word, for it to be an English one."""

TEXTS_OF_A_KIND = 4000


def learn(weights: Weights, threads: int) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of languages.npz."""
    english, multilingual = TextEncoder(weights, threads), load_multilingual(weights)
    names, glosses, examples = read_texts()
    chance = random.Random(0)
    texts = [t for kind in (names, glosses, examples) for t in chance.sample(kind, TEXTS_OF_A_KIND)]
    rows = multilingual.embed(multilingual.tokenize(texts), threads)
    return {
        "words": english_words(names, [*glosses, *examples]),
        "lengths": lengths(multilingual),
        "projection": fit(rows, english(texts)).astype(np.float16),
        "word_weight": np.array(WORD_WEIGHT),
        "foreign": np.array(FOREIGN),
        "agreed": np.array(AGREED),
        "fluency": np.array(FLUENCY),
    }


def fit(inputs: Vectors, targets: Vectors) -> NDArray[np.float64]:
    """Fit the map from multilingual vectors (n, 512) to the text space.

    Returns:
        Float64 (513, 384), the last row is added. Results still have to be normalised.
    """
    x = np.hstack([inputs, np.ones((len(inputs), 1))]).astype(np.float64)
    y = targets.astype(np.float64)
    penalty = RIDGE * len(x) / 1000 * np.eye(x.shape[1])
    solved = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    mean = y.mean(axis=0)
    stretch = np.linalg.norm(y - mean) / np.linalg.norm(x @ solved - mean)
    solved *= stretch
    solved[-1] += (MEAN_KEPT - stretch) * mean
    return np.asarray(solved)


def english_words(names: Sequence[str], glosses: Sequence[str]) -> NDArray[np.uint32]:
    """Return the words of common glosses and of names that are no proper names, hashed."""
    counts = Counter(word for gloss in glosses for word in set(words_of(gloss)))
    words = {word for word, count in counts.items() if count >= MIN_GLOSSES}
    for name in names:
        words.update(words_of(" ".join(one for one in name.split(", ") if one == one.lower())))
    return np.unique(hashed(sorted(words)))


def lengths(multilingual: SentenceEncoder) -> NDArray[np.uint8]:
    """Return how many bytes the letters and digits of each token (128000,) have in UTF-8."""
    vocabulary = multilingual.tokenizer.get_vocab()
    found = np.zeros(len(vocabulary), dtype=np.uint8)
    for token, number in vocabulary.items():
        letters = (c for c in token if unicodedata.category(c)[0] in "LMN")
        found[number] = len("".join(letters).encode())
    found[[UNKNOWN, *multilingual.around]] = 0
    return found


def read_texts(folder: Path = FOLDER) -> tuple[list[str], list[str], list[str]]:
    """Return names, glosses and examples of all parts of speech in WordNet."""
    names, glosses, examples = list[str](), list[str](), list[str]()
    for part in ("noun", "verb", "adj", "adv"):
        for line in records(folder / f"data.{part}"):
            fields, _, text = line.partition(" | ")
            head = fields.split()
            words = [head[4 + 2 * i] for i in range(int(head[3], 16))]
            # An adjective may have its position behind it, as in "afraid(p)".
            names.append(", ".join(word.replace("_", " ").split("(")[0] for word in words))
            glosses.append(text.split('; "')[0].strip())
            examples += re.findall(r'"([^"]+)"', text)
    return names, glosses, examples
