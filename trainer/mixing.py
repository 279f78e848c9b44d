"""Which adapters to mix, and in what proportion.

Source:
    Souping LoRA adapters of different data mixes: RzenEmbed, arXiv 2510.27350, which does not say
    how the weights are found. The greedy order: Model soups, arXiv 2203.05482, algorithm 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedder.rzen.checkpoint import Checkpoint
from embedder.rzen.embedder import RzenEmbedder
from trainer.lora import Adapter, BadAdapter
from trainer.merging import Mixture


class NothingGained(Exception):
    """No adapter scores higher than the base model."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One step of the greedy search.

    Attributes:
        weights: One for each adapter.
        score: Of the mixture, on the validation sets.
        kept: Whether the search went on from it.
    """

    weights: tuple[float, ...]
    score: float
    kept: bool


def averaged(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights scaled to a sum of 1, as those of an average.

    Raises:
        ValueError: one is negative or not finite, or all are 0.
    """
    if any(not math.isfinite(one) or one < 0 for one in weights) or not sum(weights) > 0:
        raise ValueError("weights must be 0 or more, and one of them above 0")
    total = math.fsum(weights)
    return tuple(one / total for one in weights)


def greedy(
    count: int, score: Callable[[tuple[float, ...]], float], weights: Sequence[float] | None = None
) -> tuple[tuple[float, ...], list[Trial]]:
    """Finds which adapters to keep.

    Args:
        count: How many there are.
        score: Of a mixture, by its weights; all zero for the base model. Higher is better.
        weights: In which proportion kept ones are averaged; None for equal parts.

    Returns:
        The weights of the best mixture, and every mixture tried, the base model first.

    Raises:
        NothingGained: no adapter scores higher than the base model.
    """
    parts = tuple(weights or (1.0,) * count)
    best = score((0.0,) * count)
    trials = [Trial((0.0,) * count, best, kept=True)]
    alone = [score(_mixture([place], parts)) for place in range(count)]
    kept: list[int] = []
    # Of two with the same score the one named first is tried first.
    for place in sorted(range(count), key=lambda one: -alone[one]):
        mixed = _mixture([*kept, place], parts)
        value = score(mixed) if kept else alone[place]
        rises = value > best
        trials.append(Trial(mixed, value, rises))
        if rises:
            best = value
            kept.append(place)
    if not kept:
        raise NothingGained(
            f"the base model has {best:.4f} and no adapter is above it, the best has "
            f"{max(alone):.4f}: nothing is written"
        )
    return _mixture(kept, parts), trials


def _mixture(kept: Sequence[int], parts: Sequence[float]) -> tuple[float, ...]:
    return averaged([part if place in kept else 0.0 for place, part in enumerate(parts)])


def mixable(directories: Sequence[Path], base: str | None) -> tuple[list[Adapter], Checkpoint]:
    """The adapters and the one base model that they all belong on.

    Raises:
        BadAdapter: one is incomplete, or they have different bases or settings.
        EmbedderUnavailable: the base model is not there.
    """
    adapters = [Adapter.of(one) for one in directories]
    first = adapters[0]
    checkpoint = first.find_base(base)
    for other in adapters[1:]:
        if other.base_digest != first.base_digest:
            raise BadAdapter(f"{other.directory} and {first.directory} have different base models")
        if other.settings != first.settings:
            raise BadAdapter(
                f"{other.directory} and {first.directory} were trained with different prompts, "
                f"positions or limits (rzen.json): their mixture would fit neither"
            )
    return adapters, checkpoint


def found_greedily(
    adapters: Sequence[Adapter],
    checkpoint: Checkpoint,
    score: Callable[[RzenEmbedder], float],
    weights: Sequence[float] | None = None,
    *,
    device: str | None = None,
    dtype: str | None = None,
) -> tuple[tuple[float, ...], list[Trial]]:
    """`greedy` with a model that is loaded once and mixed anew for each trial.

    Args:
        adapters: From `mixable`.
        checkpoint: From `mixable`.
        score: Of an embedder.
        weights: See `greedy`.
        device: Where to run.
        dtype: In which precision; the result is merged in that of the base all the same.
    """
    with RzenEmbedder(checkpoint, adapters[0].settings, device, dtype) as embedder:
        mixture = Mixture(embedder.loaded()[1].model, adapters, restorable=True)

        def of(mixed: tuple[float, ...]) -> float:
            mixture.mix(mixed)
            return score(embedder)

        return greedy(len(adapters), of, weights)
