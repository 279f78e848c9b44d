"""A training run, read from top to bottom; the stages differ in what their contents are told."""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, distributed, nn

from embedder.rzen.embedder import groups_of
from embedder.rzen.template import Template
from trainer.adapters import counts
from trainer.checkpoints import Place, Restarts
from trainer.config import Run
from trainer.data.examples import Ledger, Task
from trainer.data.loader import Fed, Feeder, collected
from trainer.distributed import average_gradients, gather, world_size
from trainer.gradcache import GradCache
from trainer.losses import TaskTemperatures, contrastive_loss
from trainer.metrics_log import Logbook
from trainer.model import Encoder, Learner, Prepared
from trainer.sampling import Batch, Sampler

_log = logging.getLogger(__name__)


def train(run: Run, *, instructions: bool, resume: bool = False) -> Path:
    """Train, and write a checkpoint that opens as "rzen:OUT/model".

    With several processes (`accelerate launch`) each takes its share of every batch; the first
    one writes.

    Args:
        run: The configuration.
        instructions: Whether contents are told what is in the data or the settings; stage 1
            tells them nothing.
        resume: Go on from the latest checkpoint of the run.

    Returns:
        The folder of the trained model.

    Raises:
        EmbedderUnavailable: the base model cannot be opened.
        Unreadable, TooManyBroken, ValueError: the data cannot be used.
        BadRestart: there is nothing to resume.
        BadOutput: the output is there already, or cannot be written.
    """
    rank = _joined_processes(run.model.device)
    torch.manual_seed(run.seed)  # All processes start from the same adapters …

    learner = Learner.of(run)
    torch.manual_seed(run.seed + rank)  # … and each drops out its own.
    optimizer = learner.optimizer()

    # The data, and which rows make a batch.
    reading = Ledger(run.broken_rows)
    corpus, sources = collected(run.data, reading, run.out)
    merged = (Task.IMAGE_CLASSIFICATION,) if run.batches.merge_classification else ()
    sampler = Sampler(
        sources,
        run.batches.size,
        seed=run.seed,
        cap=run.batches.cap,
        merge=merged,
        unique=run.batches.unique,
        repeat=run.batches.repeat,
    )
    total = sum(sampler.batches(epoch) for epoch in range(run.optimizer.epochs))
    total = min(total, run.optimizer.steps or total)
    template = Template(learner.checkpoint.tokenizer(), learner.settings)
    decoding = Ledger(run.broken_rows)
    feeder = Feeder(corpus, template, decoding, instructions=instructions)

    # How it learns, and where it goes on.
    schedule = _schedule(optimizer, round(run.optimizer.warmup * total), total)
    step = Step(learner.encoder, learner.temperatures, run, optimizer, schedule)
    modules = {"encoder": learner.encoder, "temperatures": learner.temperatures}
    restarts = Restarts(run.out / "restarts", modules, optimizer, schedule)
    place = restarts.restore() if resume else Place(0, sampler.state())
    sampler.restore(place.sampler)
    taken = place.step
    sizes = (counts(learner.encoder), len(corpus), total, world_size())
    _log.info("%s; %d rows, %d steps, %d processes", *sizes)

    # The steps.
    shown = rank == 0 and sys.stderr.isatty()
    folder = run.out / f"log-{rank}" if rank else run.out
    with Logbook(folder, resume_after=taken, total=total, shown=shown) as book:
        for fed in feeder.fed(_shards(sampler, run.optimizer.epochs, rank)):
            if taken >= total:
                break
            if not _all(bool(fed.queries)):
                continue
            started = monotonic()
            told = step.take(fed)
            taken += 1
            contents = len(fed.queries) + len(fed.positives) + len(fed.negatives)
            book.write(
                taken,
                {
                    "loss": told.loss,
                    "masked": told.masked,
                    "gradient": told.gradient,
                    "contents_per_second": contents / (monotonic() - started),
                    "learning_rate": schedule.get_last_lr()[0],
                    "skipped": reading.broken + decoding.broken,
                }
                | {f"tau/{task}": tau for task, tau in learner.temperatures.values().items()},
            )
            if taken % run.checkpoint_every == 0 or taken == total:
                restarts.save(Place(taken, sampler.state(fed.batch)))

    return learner.save() if rank == 0 else run.out / "model"


def _shards(sampler: Sampler, epochs: int, rank: int) -> Iterator[Batch]:
    """Yield this process's shard of each batch."""
    while sampler.epoch < epochs:
        for batch in sampler:
            yield batch.shard(rank, world_size())


def _joined_processes(device: str | None) -> int:
    """Join the processes that `accelerate launch` started; return the rank."""
    from accelerate import PartialState

    return int(PartialState(cpu=device == "cpu").process_index)


def _all(flag: bool) -> bool:
    """Return whether it holds in every process."""
    if world_size() == 1:
        return flag
    everywhere = torch.tensor([int(flag)])
    distributed.all_reduce(everywhere, op=distributed.ReduceOp.MIN)
    return bool(everywhere.item())


def _schedule(
    optimizer: torch.optim.Optimizer, warmup: int, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    from transformers import get_cosine_schedule_with_warmup

    return get_cosine_schedule_with_warmup(optimizer, warmup, total)


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
        """Train on a batch; all processes must take the step together.

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
    """Average over processes."""
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
        """Return the number of tokens after padding."""
        return sum(len(one) * max(map(len, one)) for one in self.chunks)

    @classmethod
    def of(cls, contents: Sequence[Prepared], tokens: int) -> "_Chunks":
        groups = groups_of([len(content) for content in contents], tokens)
        order = [index for group in groups for index in group]
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return cls([[contents[index] for index in group] for group in groups], back)
