"""GradCache: the gradients of a large batch in the memory of a small one (arXiv 2101.06983).

A contrastive loss needs all embeddings of a batch at once, but not all activations:

1. Chunk by chunk, embeddings without a graph (`GradCache(…)`).
2. The loss of all embeddings, and its gradient with respect to them (`loss.backward()`).
3. Chunk by chunk again, embeddings with a graph, and each chunk's share of that gradient through
   it (`GradCache.backward`).

By the chain rule the parameters' gradients are those of the plain step. It costs one more forward
pass, and only one chunk's activations live at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


class GradCache(Generic[T]):
    """The embeddings of a batch, and the backward pass through them.

        cache = GradCache(encode, [queries, positives, negatives])
        loss = contrastive_loss(*cache.embeddings, temperatures=…)
        accelerator.backward(loss.value)  # Or loss.value.backward().
        cache.backward()

    Gradients add to those that parameters have, as usual. What is random in `encode` (dropout)
    comes out the same both times: the state of PyTorch's generators is kept for each chunk and put
    back, on the CPU and on the current device of the accelerator. `encode` must draw from no other
    generator, and must not change the model (no batch normalisation that learns).

    Mixed precision: `encode` brings its own autocast. A gradient that `accelerator.backward` has
    scaled arrives scaled at the parameters, so that nothing is to be scaled again here.

    Args:
        encode: A chunk to its embeddings (n, dim); called twice for each chunk.
        groups: Of chunks, such as queries, positives and negatives. A group may be empty, not all.

    Attributes:
        embeddings: Of each group, (rows, dim), leaves that a gradient arrives at.

    Raises:
        ValueError: there are no chunks.
    """

    def __init__(self, encode: Callable[[T], Tensor], groups: Sequence[Sequence[T]]) -> None:
        if not any(groups):
            raise ValueError("there is nothing to encode: all groups are empty")
        self._encode = encode
        self._groups = groups
        self._states: list[list[list[Tensor]]] = []
        found: list[list[Tensor]] = []
        with torch.no_grad():
            for group in groups:
                self._states.append([])
                found.append([])
                for chunk in group:
                    self._states[-1].append(random_states())
                    found[-1].append(encode(chunk))
        self._counts = [[len(part) for part in parts] for parts in found]
        like = next(part for parts in found for part in parts)
        self.embeddings = tuple(
            (torch.cat(parts) if parts else like[:0].clone()).detach().requires_grad_()
            for parts in found
        )

    def backward(self) -> None:
        """Propagate the gradient of `embeddings` to the parameters; call once, after the loss's.

        A group that the loss did not use is not encoded again.

        Raises:
            RuntimeError: no gradient has arrived at the embeddings.
        """
        waiting = list(self._gradients())
        if not waiting:
            raise RuntimeError(
                "no gradient has arrived at the embeddings: call backward() of a loss of "
                "`embeddings` first"
            )
        now = random_states()
        try:
            for chunk, states, gradient in waiting:
                set_random_states(states)
                embeddings = self._encode(chunk)
                torch.autograd.backward(embeddings, gradient.to(embeddings.dtype))
        finally:
            set_random_states(now)

    def _gradients(self) -> Iterator[tuple[T, list[Tensor], Tensor]]:
        """Yield each chunk, its random states, and the gradient of its rows."""
        parts = zip(self._groups, self._states, self._counts, self.embeddings, strict=True)
        for group, states, counts, embeddings in parts:
            if embeddings.grad is not None:
                yield from zip(group, states, embeddings.grad.split(counts), strict=True)


def random_states() -> list[Tensor]:
    """Return the states of PyTorch's generators: the CPU's, and the accelerator's if any."""
    return [module.get_rng_state() for module in _generator_modules()]


def set_random_states(states: Sequence[Tensor]) -> None:
    """Set the generators to what `random_states` returned, maybe on a machine with others."""
    for module, state in zip(_generator_modules(), states, strict=False):
        module.set_rng_state(state)


def _generator_modules() -> list[Any]:
    device = torch.accelerator.current_accelerator(check_available=True)
    return [torch] if device is None else [torch, torch.get_device_module(device)]
