"""Trains the head of `mini`: a residual on the picture's side, a linear map on the text's.

    python -m trainer.mini --only head

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

import logging
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from embedder.interface import Vectors
from embedder.mini.space import Head, Space
from trainer.losses import LossConfig, TaskTemperatures, contrastive_loss
from trainer.mini.classes import read_classes
from trainer.mini.features import Seen
from trainer.mini.lessons import Lesson
from trainer.mini.wordnet import Nouns
from trainer.tasks import Task

logger = logging.getLogger(__name__)

# animal, artifact, body, event, food, object, person, phenomenon, plant
_FIELDS = "05 06 08 11 13 17 18 19 20".split()
_NOUNS = 3000
_SHARP = 0.02  # τ₀


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """How the head is trained; chosen on held-out drawings, stamps and photos.tsv.

    Attributes:
        hidden: Width of the hidden layer.
        dropout: Share of the hidden layer that a step leaves out.
        epochs: Times that each group of drawings is seen.
        batch: Pairs of a step, and photos and nouns beside them.
        learning_rate: Of AdamW at its highest: it rises for `warmup` steps and falls as a cosine.
        weight_decay: Of AdamW; temperatures have none.
        warmup: Steps.
        place: λ₁.
        similarity: λ₂.
        texts: λ₃.
        guess: Share of the taught guess at looks that is exported, the rest being the space's own.
            None of it: taught, it brought drawings 0.02 more and cost photos their first places.
            It is taught all the same, so that the picture's side need not make up for it.
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


@dataclass(frozen=True, slots=True)
class Step:
    """A line of the training's record.

    Attributes:
        number: Of the step, from 1.
        loss: All of it.
        pairs: The part of pairs with words.
        moved: Mean of 1 − cos(m', m) over photos.
        temperatures: τ by task.
    """

    number: int
    loss: float
    pairs: float
    moved: float
    temperatures: dict[str, float]


class Network(nn.Module):
    """The head as a network; a picture's visual part and a text's place stay as they are."""

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
        """Unit rows (n, 384) from unit rows (n, 384) and (n, v)."""
        hidden = functional.relu(self.inner(torch.cat([looks, before], 1) * self._scale))
        return functional.normalize(before + self.outer(self.dropout(hidden)), dim=1)

    def pictures(self, before: Tensor, looks: Tensor) -> Tensor:
        """Whole vectors (n, dim) of pictures."""
        return self._joined(self.meaning(before, looks), looks, self._picture_shares)

    def texts(self, vectors: Tensor) -> Tensor:
        """Whole vectors (n, dim) of texts, from unit rows (n, 384)."""
        looks = functional.normalize(vectors @ self.guess[:-1] + self.guess[-1], dim=1)
        return self._joined(vectors, looks, self._text_shares)

    def export(self) -> Head:
        """The same in NumPy."""
        with torch.no_grad():
            inner = torch.cat([self.inner.weight.T * self._scale[:, None], self.inner.bias[None]])
            outer = torch.cat([self.outer.weight.T, self.outer.bias[None]])
            guess = torch.lerp(self._own_guess, self.guess, self._guess_share)
            return Head(inner.numpy(), outer.numpy(), guess.numpy())

    @staticmethod
    def _joined(meaning: Tensor, looks: Tensor, shares: Sequence[float]) -> Tensor:
        return torch.cat([shares[0] * meaning, shares[1] * looks], 1)


@dataclass(frozen=True, slots=True)
class School:
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
    """Names of the classes of ImageNet, and nouns of things that can be seen."""
    nouns = Nouns()
    words = [
        word
        for word in sorted(nouns.attested)
        if nouns.synsets[nouns.senses[word][0]].field in _FIELDS
    ]
    return [one.names[0] for one in read_classes()] + random.Random(seed).sample(words, _NOUNS)


def train(school: School, space: Space, config: HeadConfig) -> tuple[Head, list[Step]]:
    """Trains a head.

    Args:
        school: What it is taught.
        space: Where pictures and texts are before.
        config: How.

    Returns:
        The head, and every tenth step.
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
    steps = config.epochs * math.ceil(len(school.groups) / config.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            min(1.0, (step + 1) / config.warmup) * (1 + math.cos(math.pi * step / steps)) / 2
        ),
    )
    with torch.no_grad():
        before = network.texts(school.nouns)
    record: list[Step] = []
    began = time.monotonic()
    for number in range(1, steps + 1):
        queries, pictures = _pairs(network, school, chance, config.batch)
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
        moved, kept, texts = _staying(network, school, before, config.batch)
        loss = pairs + config.place * moved + config.similarity * kept + config.texts * texts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if number % 10 == 0 or number == steps:
            values = temperatures.values()
            record.append(Step(number, loss.item(), pairs.item(), moved.item(), values))
        if number % 50 == 0 or number == steps:
            seconds = time.monotonic() - began
            logger.info("step %d of %d, loss %.3f, %.0f s", number, steps, loss.item(), seconds)
    return network.eval().export(), record


def _pairs(
    network: Network, school: School, chance: random.Random, batch: int
) -> tuple[Tensor, Tensor]:
    """A batch of texts and their pictures, one of a group."""
    groups = chance.sample(school.groups, min(batch, len(school.groups)))
    rows = [chance.choice(group) for group in groups]
    views = [chance.randrange(school.meaning.shape[1]) for _ in rows]
    words = [chance.choice(school.texts[row]) for row in rows]
    pictures = network.pictures(school.meaning[rows, views], school.looks[rows, views])
    return network.texts(school.words[words]), pictures


def _staying(
    network: Network, school: School, nouns_before: Tensor, batch: int
) -> tuple[Tensor, Tensor, Tensor]:
    """How far photos moved, and cosines of nouns with photos and with each other."""
    photos = torch.randint(len(school.photo_meaning), (batch,))
    nouns = torch.randint(len(school.nouns), (batch,))
    before, looks = school.photo_meaning[photos], school.photo_looks[photos]
    after = network.meaning(before, looks)
    shares = network._picture_shares
    old = network._joined(before, looks, shares)
    new = network._joined(after, looks, shares)
    said, told = nouns_before[nouns], network.texts(school.nouns[nouns])
    kept = _drift(said @ old.T, told @ new.T) + _drift(old @ said.T, new @ told.T)
    texts = ((told @ told.T - said @ said.T) ** 2).mean()
    return (1 - (after * before).sum(1)).mean(), kept, texts


def _drift(before: Tensor, after: Tensor) -> Tensor:
    """Mean over the rows of the divergence between rankings, as distributions."""
    old, new = (functional.log_softmax(rows / _SHARP, dim=1) for rows in (before, after))
    return functional.kl_div(new, old, reduction="batchmean", log_target=True)


def gathered(
    lessons: Sequence[Lesson], photos: Seen, space: Space, read: Callable[[list[str]], Vectors]
) -> School:
    """Features and words as tensors, in the space before training.

    Args:
        lessons: Pictures with words.
        photos: Pictures without.
        space: Its head, if it has one, is not used.
        read: Texts to unit rows (n, 384).
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
    return School(
        list(groups.values()),
        [[places[text] for text in one.texts] for one in lessons],
        torch.from_numpy(read(texts)),
        meaning,
        looks,
        photo_meaning,
        photo_looks,
        torch.from_numpy(read(concrete_nouns())),
    )
