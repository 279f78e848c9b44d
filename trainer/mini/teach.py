"""Train the head of `mini`: a residual on the picture's side, a linear map on the text's.

    python -m trainer.mini --only head

Drawings of the Open Clip Art Library that are not held out, and emoji, have words. Photos of
wallpapers, manuals and GCompris have none: the head must leave them in place. The classes of
ImageNet add imagined photos, with the words of WordNet. Tux Paint's stamps and the photos of
photos.tsv are for measuring and are not trained on.

The loss is that of the project (trainer/losses.py: InfoNCE with a mask for false negatives,
weights for hard ones and a learned temperature a task), in both directions:

    L = L_retrieval(text → picture) + L_classification(picture → text)
      + λ₁ · mean over photos of 1 − cos(m', m)
      + λ₂ · mean of KL(softmax(s/τ₀) ‖ softmax(s'/τ₀)), nouns over photos and photos over nouns
      + λ₃ · mean over pairs of nouns of (s'(noun, noun) − s(noun, noun))²

m is where a photo without words is in the text space before training and m' after it; s and s' are
cosines of whole vectors, before and after; τ₀ = 0.02, so that it is the first places of a ranking
that are held. What was right on photos stays so, and texts among each other keep their ranking.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from embedder.interface import Vectors
from embedder.mini.space import Head, Space
from trainer.data.examples import Task
from trainer.losses import LossConfig, TaskTemperatures, contrastive_loss
from trainer.metrics_log import MetricsLog
from trainer.mini.features import Features, PictureFeatures, imagined
from trainer.mini.pictures import (
    Drawing,
    corners,
    drawing_view,
    drawings,
    scene_views,
    scenes,
    stamps,
    unmeasured_scenes,
)
from trainer.mini.words import Emoji, Nouns, class_words, drawn_emoji, named_emoji, read_classes

IMAGINED = 8000  # photos, eight of a class
VIEWS = 2  # of a drawing: on white as it is, and altered once; a third brought nothing
VERSION = "1"  # raise when pictures or views change
_MAX_TEXT_CHARACTERS = 200
_OWN, _RELATED = 4, 4  # words of an imagined photo: of its class, and of related synsets
# animal, artifact, body, event, food, object, person, phenomenon, plant
_FIELDS = "05 06 08 11 13 17 18 19 20".split()
_NOUNS = 3000
_RANKING_TEMPERATURE = 0.02  # τ₀


@dataclass(frozen=True, slots=True)
class Lesson:
    """A picture and texts that describe it.

    Attributes:
        group: Shared by variants of one drawing; only one of them is in a batch.
        texts: Mostly English.
        pooled: Float32 (views, 1280).
        logits: Float32 (views, 1000).
    """

    group: str
    texts: tuple[str, ...]
    pooled: Vectors
    logits: Vectors


def drawing_texts(drawing: Drawing) -> tuple[str, ...]:
    """Return title; title and keywords; each keyword; all keywords; title and category."""
    title, keywords = drawing.title, list(drawing.keywords)
    together = ", ".join(dict.fromkeys([title, *keywords]))
    texts = [title, together, *keywords, *([", ".join(keywords)] if keywords else [])]
    return _short([*texts, f"{title} {drawing.category.rpartition('/')[2].replace('_', ' ')}"])


def emoji_texts(emoji: Emoji) -> tuple[str, ...]:
    """Return name; name and keywords; each keyword."""
    return _short([emoji.name, ", ".join([emoji.name, *emoji.keywords]), *emoji.keywords])


def see_drawings(features: Features, given: Sequence[Drawing]) -> list[PictureFeatures]:
    """Return features of all drawings, once a view, without those that cannot be read."""
    return [
        features.of(f"drawings-{view}", _drawing_views(given, view), f"{VERSION} {len(given)}")
        for view in range(VIEWS)
    ]


def lessons(features: Features) -> list[Lesson]:
    """Return lessons on drawings that are not held out, and emoji.

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
            found.append(_lesson(one.group, drawing_texts(one), seen, row))
    return found + _emoji_lessons(features)


def class_lessons(photos: PictureFeatures, count: int = IMAGINED, seed: int = 1) -> list[Lesson]:
    """Return imagined photos of classes, each with other words that WordNet has for them.

    Args:
        photos: Real ones, to start from.
        count: Number of lessons.
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
        texts = tuple(dict.fromkeys(texts))
        found.append(_lesson(f"class {number}", texts, [seen] * VIEWS, row))
    return found


def in_place(photos: PictureFeatures, count: int = IMAGINED) -> PictureFeatures:
    """Return photos to hold in place: real ones, and imagined ones of all classes."""
    more, _ = imagined(photos, count)
    return PictureFeatures(
        photos.names + more.names,
        np.concatenate([photos.pooled, more.pooled]),
        np.concatenate([photos.logits, more.logits]),
    )


def unlabelled(features: Features) -> PictureFeatures:
    """Return photos without words, four views of each."""

    def seen() -> Iterator[tuple[str, Image.Image]]:
        for scene in unmeasured_scenes():
            for view in scene_views(scene.image, scene.source):
                yield scene.source, view

    return features.of("scenes", seen(), VERSION)


def whitened(features: Features) -> PictureFeatures:
    """Return what the visual part is whitened on: two corners of each scene, and stamps.

    Of the stamps, which are otherwise for measuring, only the mean and covariance of features are
    used, together with those of the scenes, and no words. Without them, and with drawings instead,
    photos of things rank lower (docs/mini.md).
    """

    def seen() -> Iterator[tuple[str, Image.Image]]:
        for stamp in stamps():
            yield stamp.source, stamp.image
        for scene in scenes():
            for view in (scene.image, *corners(scene.image)):
                yield scene.source, view

    return features.of("whitened", seen(), VERSION)


def _emoji_lessons(features: Features) -> list[Lesson]:
    known = {f"emoji {one.characters}": one for one in named_emoji()}
    drawn = drawn_emoji(list(known.values()))
    seen = features.of(
        "emoji", ((f"emoji {one.characters}", image) for one, image in drawn), VERSION
    )
    return [
        _lesson(f"emoji {known[name].name}", emoji_texts(known[name]), [seen] * VIEWS, row)
        for row, name in enumerate(seen.names)
    ]


def _lesson(
    group: str, texts: tuple[str, ...], views: Sequence[PictureFeatures], row: int
) -> Lesson:
    pooled = np.stack([view.pooled[row] for view in views])
    return Lesson(group, texts, pooled, np.stack([view.logits[row] for view in views]))


def _drawing_views(given: Sequence[Drawing], view: int) -> Iterator[tuple[str, Image.Image]]:
    for one in given:
        try:
            name = f"{one.category}/{one.path.name}"  # the same wherever the library is
            yield str(one.path), drawing_view(one.path, name, view)
        except (OSError, Image.DecompressionBombError):
            continue


def _short(texts: list[str]) -> tuple[str, ...]:
    return tuple(text[:_MAX_TEXT_CHARACTERS] for text in texts)


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """Hyperparameters of the head, chosen on held-out drawings, stamps and photos.tsv.

    Attributes:
        hidden: Width of the hidden layer.
        dropout: Of the hidden layer.
        epochs: Passes over the groups of drawings.
        batch: Pairs of a step, and photos and nouns beside them.
        learning_rate: Of AdamW at its highest: it rises for `warmup` steps and falls as a cosine.
        weight_decay: Of AdamW; temperatures have none.
        warmup: Steps.
        place: λ₁.
        similarity: λ₂.
        texts: λ₃.
        guess: Share of the trained prediction of looks that is exported, the rest being the
            space's. None: exported, it gained drawings 0.02 and cost photos their first places.
            It is trained all the same, so that the picture's side need not make up for it.
        loss: Of the pairs with words.
        seed: Of weights, batches and dropout.
    """

    hidden: int = 1024
    dropout: float = 0.2
    epochs: int = 12
    batch: int = 512
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 50
    place: float = 20.0
    similarity: float = 4.0
    texts: float = 100.0
    guess: float = 0.0
    loss: LossConfig = field(default_factory=lambda: LossConfig(temperature=0.05))
    seed: int = 0


class Network(nn.Module):
    """The head as a network; a picture's visual part and a text's meaning stay unchanged."""

    def __init__(self, space: Space, config: HeadConfig) -> None:
        super().__init__()
        visual, width = space.projection.shape[1], space.prototypes.shape[1]
        self.inner = nn.Linear(visual + width, config.hidden)
        self.outer = nn.Linear(config.hidden, width)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)
        self.dropout = nn.Dropout(config.dropout)
        self.guess = nn.Parameter(torch.from_numpy(space.text_projection.copy()))
        self._own_guess = self.guess.detach().clone()
        self._guess_share = config.guess
        self._picture_shares = space.picture_shares.tolist()
        self._text_shares = space.text_shares.tolist()
        # Inputs are unit rows: about ±1 each after this, as the layer expects.
        self._scale = torch.cat([torch.full((n,), n**0.5) for n in (visual, width)])

    def meaning(self, before: Tensor, looks: Tensor) -> Tensor:
        """Map unit rows (n, 384) and (n, v) to unit rows (n, 384)."""
        hidden = functional.relu(self.inner(torch.cat([looks, before], 1) * self._scale))
        return functional.normalize(before + self.outer(self.dropout(hidden)), dim=1)

    def pictures(self, before: Tensor, looks: Tensor) -> Tensor:
        """Return whole vectors (n, dim) of pictures."""
        return self._joined(self.meaning(before, looks), looks, self._picture_shares)

    def texts(self, vectors: Tensor) -> Tensor:
        """Return whole vectors (n, dim) of texts, from unit rows (n, 384)."""
        looks = functional.normalize(vectors @ self.guess[:-1] + self.guess[-1], dim=1)
        return self._joined(vectors, looks, self._text_shares)

    def export(self) -> Head:
        """Return the head in NumPy."""
        with torch.no_grad():
            inner = torch.cat([self.inner.weight.T * self._scale[:, None], self.inner.bias[None]])
            outer = torch.cat([self.outer.weight.T, self.outer.bias[None]])
            guess = torch.lerp(self._own_guess, self.guess, self._guess_share)
            return Head(inner.numpy(), outer.numpy(), guess.numpy())

    @staticmethod
    def _joined(meaning: Tensor, looks: Tensor, shares: Sequence[float]) -> Tensor:
        return torch.cat([shares[0] * meaning, shares[1] * looks], 1)


@dataclass(frozen=True, slots=True)
class TrainingData:
    """All that training needs, as tensors.

    Attributes:
        groups: Rows of lessons by group.
        texts: Rows of `words` by lesson.
        words: Unit rows (w, 384): every text of a lesson.
        meaning: Unit rows (lessons, views, 384) before training.
        looks: Unit rows (lessons, views, v).
        photo_meaning: Unit rows (p, 384) before training.
        photo_looks: Unit rows (p, v).
        nouns: Unit rows (b, 384).
    """

    groups: list[list[int]]
    texts: list[list[int]]
    words: Tensor
    meaning: Tensor
    looks: Tensor
    photo_meaning: Tensor
    photo_looks: Tensor
    nouns: Tensor


def concrete_nouns(seed: int = 0) -> list[str]:
    """Return ImageNet's class names, and nouns of visible things."""
    nouns = Nouns()
    words = [
        word
        for word in sorted(nouns.attested)
        if nouns.synsets[nouns.senses[word][0]].field in _FIELDS
    ]
    return [one.names[0] for one in read_classes()] + random.Random(seed).sample(words, _NOUNS)


def train(data: TrainingData, space: Space, config: HeadConfig, folder: Path) -> Head:
    """Train a head.

    Args:
        data: Features and words, from `build_training_data`.
        space: The space before training.
        config: Hyperparameters.
        folder: Where `MetricsLog` writes the loss, the part of pairs with words, the mean of
            1 − cos(m', m) over photos (`moved`) and τ of each task.
    """
    torch.manual_seed(config.seed)
    chance = random.Random(config.seed)
    network = Network(space, config)
    tasks = (Task.IMAGE_RETRIEVAL, Task.IMAGE_CLASSIFICATION)
    temperatures = TaskTemperatures(tasks, config.loss.temperature)
    optimizer = torch.optim.AdamW(
        [
            {"params": network.parameters(), "weight_decay": config.weight_decay},
            {"params": temperatures.parameters(), "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
    )
    steps = config.epochs * math.ceil(len(data.groups) / config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / config.warmup) * (1 + math.cos(math.pi * step / steps)) / 2
        ),
    )
    with torch.no_grad():
        before = network.texts(data.nouns)
    with MetricsLog(folder, total=steps, shown=True) as log:
        for number in range(1, steps + 1):
            queries, pictures = _pairs(network, data, chance, config.batch)
            pairs = torch.stack(
                [
                    contrastive_loss(
                        one, other, temperatures=temperatures([task] * len(one)), config=config.loss
                    ).value
                    for task, one, other in zip(
                        tasks, (queries, pictures), (pictures, queries), strict=True
                    )
                ]
            ).sum()
            moved, kept, texts = _staying(network, data, before, config.batch)
            loss = pairs + config.place * moved + config.similarity * kept + config.texts * texts
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            values = {"loss": loss.item(), "pairs": pairs.item(), "moved": moved.item()}
            log.write(number, values | temperatures.values())
    return network.eval().export()


def _pairs(
    network: Network, data: TrainingData, chance: random.Random, batch: int
) -> tuple[Tensor, Tensor]:
    """Draw a batch of texts and their pictures, one of a group."""
    groups = chance.sample(data.groups, min(batch, len(data.groups)))
    rows = [chance.choice(group) for group in groups]
    views = [chance.randrange(data.meaning.shape[1]) for _ in rows]
    words = [chance.choice(data.texts[row]) for row in rows]
    pictures = network.pictures(data.meaning[rows, views], data.looks[rows, views])
    return network.texts(data.words[words]), pictures


def _staying(
    network: Network, data: TrainingData, nouns_before: Tensor, batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Return how far photos moved, and cosines of nouns with photos and each other."""
    photos = torch.randint(len(data.photo_meaning), (batch,))
    nouns = torch.randint(len(data.nouns), (batch,))
    before, looks = data.photo_meaning[photos], data.photo_looks[photos]
    after = network.meaning(before, looks)
    shares = network._picture_shares
    old = network._joined(before, looks, shares)
    new = network._joined(after, looks, shares)
    nouns_old, nouns_new = nouns_before[nouns], network.texts(data.nouns[nouns])
    kept = _drift(nouns_old @ old.T, nouns_new @ new.T) + _drift(
        old @ nouns_old.T, new @ nouns_new.T
    )
    texts = ((nouns_new @ nouns_new.T - nouns_old @ nouns_old.T) ** 2).mean()
    return (1 - (after * before).sum(1)).mean(), kept, texts


def _drift(before: Tensor, after: Tensor) -> Tensor:
    """Return the mean divergence between rankings, as distributions."""
    old, new = (
        functional.log_softmax(rows / _RANKING_TEMPERATURE, dim=1) for rows in (before, after)
    )
    return functional.kl_div(new, old, reduction="batchmean", log_target=True)


def build_training_data(
    lessons: Sequence[Lesson],
    photos: PictureFeatures,
    space: Space,
    read: Callable[[list[str]], Vectors],
) -> TrainingData:
    """Convert features and words to tensors, in the space before training.

    Args:
        lessons: Pictures with words.
        photos: Pictures without.
        space: Its head, if any, is not used.
        read: Maps texts to unit rows (n, 384).
    """
    texts = list(dict.fromkeys(text for one in lessons for text in one.texts))
    places = {text: row for row, text in enumerate(texts)}
    groups: dict[str, list[int]] = {}
    for row, one in enumerate(lessons):
        groups.setdefault(one.group, []).append(row)
    pooled = np.stack([one.pooled for one in lessons])
    count, views = pooled.shape[:2]
    logits = np.stack([one.logits for one in lessons])
    parts = space.parts(pooled.reshape(count * views, -1), logits.reshape(count * views, -1))
    meaning, looks = (torch.from_numpy(part.reshape(count, views, -1)) for part in parts)
    photo_meaning, photo_looks = map(torch.from_numpy, space.parts(photos.pooled, photos.logits))
    return TrainingData(
        list(groups.values()),
        [[places[text] for text in one.texts] for one in lessons],
        torch.from_numpy(read(texts)),
        meaning,
        looks,
        photo_meaning,
        photo_looks,
        torch.from_numpy(read(concrete_nouns())),
    )
