"""One step of training: a large batch's exact gradient in the memory of a chunk."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from embedder.rzen.schedule import groups_of
from trainer.config import Run
from trainer.encoding import Encoder, Prepared
from trainer.feeding import Fed
from trainer.gathering import average_gradients, gather, world_size
from trainer.gradcache import GradCache
from trainer.losses import TaskTemperatures, contrastive_loss


@dataclass(frozen=True, slots=True)
class Told:
    """What a step says of itself: loss, share of masked negatives, norm of the gradient."""

    loss: float
    masked: float
    gradient: float


class Step:
    """Forward, loss, backward, update.

    Args:
        encoder: What learns.
        temperatures: Of the loss; they learn too.
        run: Says which loss, how much is computed at a time, and how large gradients may be.
        optimizer: Over the parameters of both.
        schedule: Of the learning rate.
    """

    def __init__(
        self,
        encoder: Encoder,
        temperatures: TaskTemperatures,
        run: Run,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self._encoder = encoder
        self._temperatures = temperatures
        self._loss = run.loss
        self._optimizer = optimizer
        self._schedule = schedule
        self._chunk_tokens = run.batches.chunk_tokens
        self._largest = run.optimizer.largest_gradient
        modules: list[nn.Module] = [encoder, temperatures]
        self._parameters = [
            one for module in modules for one in module.parameters() if one.requires_grad
        ]

    def take(self, fed: Fed) -> Told:
        """Learns from a batch; all processes must take the step together.

        Args:
            fed: This process's part of it; at least one query.
        """
        self._optimizer.zero_grad(set_to_none=True)
        groups = [_Chunks.of(one, self._chunk_tokens) for one in (fed.queries, fed.positives)]
        if fed.negatives:
            groups.append(_Chunks.of(fed.negatives, self._chunk_tokens))
        # A batch that fits into one chunk has no need of caching, which costs a forward pass.
        fits = sum(group.padded for group in groups) <= self._chunk_tokens
        cache = None
        if fits:
            found = [torch.cat([self._encoder(one) for one in group.chunks]) for group in groups]
        else:
            cache = GradCache(self._encoder, [group.chunks for group in groups])
            found = list(cache.embeddings)
        rows = [embeddings[one.back] for embeddings, one in zip(found, groups, strict=True)]
        queries, positives = rows[0], gather(rows[1])
        negatives = gather(rows[2] if len(rows) > 2 else rows[0][:0]).rows
        loss = contrastive_loss(
            queries,
            positives.rows,
            negatives,
            temperatures=self._temperatures(fed.tasks),
            config=self._loss,
            offset=positives.offset,
            all_queries=gather(queries).rows if self._loss.two_sided else None,
        )
        (loss.value * positives.weight).backward()
        if cache is not None:
            cache.backward()
        average_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._largest)
        self._optimizer.step()
        self._schedule.step()
        told = torch.stack([loss.value.detach(), loss.masked]) * positives.weight
        value, masked = _averaged(told).tolist()
        return Told(value, masked, float(norm))


def _averaged(values: Tensor) -> Tensor:
    """The mean over processes, which is that over all rows of the batch."""
    if world_size() > 1:
        distributed.all_reduce(values)
    return values / world_size()


@dataclass(frozen=True, eq=False, slots=True)
class _Chunks:
    """Contents in chunks of about the same length, and how their rows get back into order."""

    chunks: list[list[Prepared]]
    back: Tensor

    @property
    def padded(self) -> int:
        """Tokens that they are computed as."""
        return sum(len(one) * max(map(len, one)) for one in self.chunks)

    @classmethod
    def of(cls, contents: Sequence[Prepared], tokens: int) -> "_Chunks":
        groups = groups_of([len(content) for content in contents], tokens)
        order = [index for group in groups for index in group]
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return cls([[contents[index] for index in group] for group in groups], back)
