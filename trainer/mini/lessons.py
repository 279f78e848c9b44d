"""What the head of `mini` is taught: pictures with words, and photos without.

Drawings of the Open Clip Art Library that are not held out, and emoji, bring words. Photos of
wallpapers, manuals and GCompris bring none: on them the head is to leave everything in place. The
classes of ImageNet bring photos that are only imagined, with the words of WordNet.
Tux Paint's stamps and the photos of photos.tsv are for measuring and bring no words here.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from embedder.interface import Vectors
from trainer.data.clipart import Drawing, drawings
from trainer.mini.classes import read_classes
from trainer.mini.emoji import Emoji, drawn_emoji, named_emoji
from trainer.mini.features import Features, Seen
from trainer.mini.imagined import imagined
from trainer.mini.kinship import class_words
from trainer.mini.photos import read_photos
from trainer.mini.pictures import scenes, stamps
from trainer.mini.views import drawing_view, scene_views
from trainer.mini.wordnet import Nouns

IMAGINED = 8000  # photos, eight of a class
VIEWS = 2  # of a drawing: on white as it is, and altered once; a third brought nothing
VERSION = "1"  # raise when pictures or views change
_LONGEST = 200  # characters of a text
_OWN, _RELATED = 4, 4  # words of an imagined photo: of its class, and of what is near to it


@dataclass(frozen=True, slots=True)
class Lesson:
    """A picture and ways to say what it shows.

    Attributes:
        group: Variants of one drawing share it; only one of them is in a batch.
        texts: In English mostly.
        pooled: Float32 (views, 1280).
        logits: Float32 (views, 1000).
    """

    group: str
    texts: tuple[str, ...]
    pooled: Vectors
    logits: Vectors


def drawing_texts(drawing: Drawing) -> tuple[str, ...]:
    """Its title; title and keywords; each keyword; all keywords; title and category."""
    title, keywords = drawing.title, list(drawing.keywords)
    together = ", ".join(dict.fromkeys([title, *keywords]))
    said = [title, together, *keywords, *([", ".join(keywords)] if keywords else [])]
    return _short([*said, f"{title} {drawing.category.rpartition('/')[2].replace('_', ' ')}"])


def emoji_texts(emoji: Emoji) -> tuple[str, ...]:
    """Its name; name and keywords; each keyword."""
    return _short([emoji.name, ", ".join([emoji.name, *emoji.keywords]), *emoji.keywords])


def see_drawings(features: Features, given: Sequence[Drawing]) -> list[Seen]:
    """All drawings, once for each view; those that cannot be read are left out of all."""
    return [
        features.of(f"drawings-{view}", _drawing_views(given, view), f"{VERSION} {len(given)}")
        for view in range(VIEWS)
    ]


def lessons(features: Features) -> list[Lesson]:
    """Drawings that are not held out, and emoji.

    Raises:
        Unreadable: a package is not installed.
    """
    given = drawings()
    seen = see_drawings(features, given)
    places = {name: row for row, name in enumerate(seen[0].names)}
    found = []
    for one in given:
        row = places.get(str(one.path))
        if row is not None and not one.held_out:
            pooled = np.stack([view.pooled[row] for view in seen])
            logits = np.stack([view.logits[row] for view in seen])
            found.append(Lesson(one.group, drawing_texts(one), pooled, logits))
    return found + _emoji_lessons(features)


def class_lessons(photos: Seen, count: int = IMAGINED, seed: int = 1) -> list[Lesson]:
    """Imagined photos of classes, each with other words of those that WordNet has for its class.

    Args:
        photos: Real ones, to start from.
        count: How many.
        seed: Of photos and words.
    """
    classes = read_classes()
    words = class_words(classes, Nouns())
    seen, numbers = imagined(photos, count, seed)
    chance = random.Random(seed)
    found = []
    for row, number in enumerate(numbers):
        one = classes[number]
        own = [*one.names, ", ".join(one.names), f"{one.names[0]}: {one.gloss}"][:_OWN]
        near = words[number][len(set(one.names)) :]
        texts = _short([*own, *chance.sample(near, min(_RELATED, len(near)))])
        pooled, logits = (np.stack([rows[row]] * VIEWS) for rows in (seen.pooled, seen.logits))
        found.append(Lesson(f"class {number}", tuple(dict.fromkeys(texts)), pooled, logits))
    return found


def in_place(photos: Seen, count: int = IMAGINED) -> Seen:
    """Photos that are to stay where they are: the real ones, and imagined ones of all classes."""
    more, _ = imagined(photos, count)
    return Seen(
        photos.names + more.names,
        np.concatenate([photos.pooled, more.pooled]),
        np.concatenate([photos.logits, more.logits]),
    )


def unlabelled(features: Features) -> Seen:
    """Photos without words, four views of each."""
    # Of a wallpaper that is there in several sizes, none.
    kept_out = tuple(photo.source.partition("/contents/")[0] for photo in read_photos())

    def seen() -> Iterator[tuple[str, Image.Image]]:
        for scene in scenes():
            if not scene.source.startswith(kept_out):
                for view in scene_views(scene.image, scene.source):
                    yield scene.source, view

    return features.of("scenes", seen(), VERSION)


def whitened(features: Features) -> Seen:
    """What the visual part is whitened on: scenes with two overlapping corners of each, and stamps.

    Of the stamps, which are otherwise for measuring, only mean and covariance of what the tower
    sees take part, together with those of the scenes, and no words. Without them, and with
    drawings instead, photos of things fall (docs/mini.md).
    """

    def seen() -> Iterator[tuple[str, Image.Image]]:
        for stamp in stamps():
            yield stamp.source, stamp.image
        for scene in scenes():
            width, height = scene.image.size
            yield scene.source, scene.image
            for corner in (
                (0, 0, round(0.7 * width), round(0.7 * height)),
                (round(0.3 * width), round(0.3 * height), width, height),
            ):
                yield scene.source, scene.image.crop(corner)

    return features.of("whitened", seen(), VERSION)


def _emoji_lessons(features: Features) -> list[Lesson]:
    known = {f"emoji {one.characters}": one for one in named_emoji()}
    drawn = drawn_emoji(list(known.values()))
    seen = features.of(
        "emoji", ((f"emoji {one.characters}", image) for one, image in drawn), VERSION
    )
    found = []
    for row, name in enumerate(seen.names):
        pooled, logits = (np.stack([rows[row]] * VIEWS) for rows in (seen.pooled, seen.logits))
        found.append(Lesson(f"emoji {known[name].name}", emoji_texts(known[name]), pooled, logits))
    return found


def _drawing_views(given: Sequence[Drawing], view: int) -> Iterator[tuple[str, Image.Image]]:
    for one in given:
        try:
            name = f"{one.category}/{one.path.name}"  # the same wherever the library is
            yield str(one.path), drawing_view(one.path, name, view)
        except (OSError, Image.DecompressionBombError):
            continue


def _short(texts: list[str]) -> tuple[str, ...]:
    return tuple(text[:_LONGEST] for text in texts)
