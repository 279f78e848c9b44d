"""The training loop: set-up, the steps, and what one step does."""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn

from embedder.mllm.embedder import groups_of
from embedder.mllm.template import Template
from trainer.adapters import count_parameters
from trainer.checkpoints import Checkpointer, TrainingState
from trainer.config import Batches, Run
from trainer.data.examples import ErrorBudget, Task
from trainer.data.loader import BatchLoader, PreparedBatch, load_datasets
from trainer.distributed import average, average_gradients, gather, world_size
from trainer.gradcache import GradCache
from trainer.losses import BatchEmbeddings, ContrastiveLoss, Loss
from trainer.metrics_log import MetricsLog
from trainer.model import Encoder, PreparedContent, TrainingModel
from trainer.sampling import Batch, Sampler, Source

_log = logging.getLogger(__name__)


def train(run: Run, *, instructions: bool, resume: bool = False) -> Path:
    """Train, and write a checkpoint that opens as "rzen:OUT/model".

    With several processes (`accelerate launch`) each takes its share of every batch; the first
    one writes.

    Args:
        run: The configuration.
        instructions: Whether contents get the instructions of the data or the settings; stage 1
            uses none.
        resume: Continue from the latest checkpoint of the run.

    Returns:
        The folder of the trained model.

    Raises:
        EmbedderUnavailable: the base model cannot be opened.
        Unreadable, TooManyBroken, ValueError: the data cannot be used.
        ResumeError: there is nothing to resume.
        BadOutput: the output exists already, or cannot be written.
    """
    rank = _joined_processes(run.model.device)
    torch.manual_seed(run.seed)  # All processes start from the same adapters …
    model = TrainingModel.of(run)
    torch.manual_seed(run.seed + rank)  # … and each draws its own dropout.
    optimizer = model.optimizer()

    # The data, and which rows make a batch.
    read_errors, decode_errors = ErrorBudget(run.broken_rows), ErrorBudget(run.broken_rows)
    corpus, sources = load_datasets(run.data, read_errors, run.out)
    sampler = _sampler(sources, run.batches, run.seed)
    total = sum(sampler.batches(epoch) for epoch in range(run.optimizer.epochs))
    total = min(total, run.optimizer.steps or total)
    template = Template(model.checkpoint.tokenizer(), model.settings)
    loader = BatchLoader(corpus, template, decode_errors, instructions=instructions)

    # How it learns, and where it continues.
    schedule = _schedule(optimizer, round(run.optimizer.warmup * total), total)
    loss = ContrastiveLoss(model.temperatures, run.loss)
    step = Step(model.encoder, loss, model.parameters(), run, optimizer, schedule)
    modules = {"encoder": model.encoder, "temperatures": model.temperatures}
    checkpoints = Checkpointer(run.out / "checkpoints", modules, optimizer, schedule)
    state = checkpoints.restore() if resume else TrainingState(0, sampler.state())
    sampler.restore(state.sampler)
    done = state.step
    trained = "{:,} of {:,} parameters are trained".format(*count_parameters(model.encoder))
    _log.info("%s; %d rows, %d steps, %d processes", trained, len(corpus), total, world_size())

    # The steps.
    folder = run.out / f"log-{rank}" if rank else run.out
    with MetricsLog(folder, resume_after=done, total=total, shown=rank == 0) as metrics:
        for batch in loader.batches(_shards(sampler, run.optimizer.epochs, rank)):
            if done >= total:
                break
            if average(torch.tensor(float(bool(batch.queries)))) < 1:
                continue  # A process has nothing left of it, and all take a step together.
            started = monotonic()
            result = step.take(batch)
            done += 1
            values = {
                "loss": result.loss,
                "masked": result.masked,
                "gradient": result.gradient_norm,
                "contents_per_second": len(batch) / (monotonic() - started),
                "learning_rate": schedule.get_last_lr()[0],
                "skipped": read_errors.broken + decode_errors.broken,
            }
            taus = {f"tau/{task}": tau for task, tau in model.temperatures.values().items()}
            metrics.write(done, values | taus)
            if done % run.checkpoint_every == 0 or done == total:
                checkpoints.save(TrainingState(done, sampler.state(batch.rows)))

    return model.save() if rank == 0 else run.out / "model"


def _sampler(sources: Sequence[Source], options: Batches, seed: int) -> Sampler:
    return Sampler(
        sources,
        options.size,
        seed=seed,
        cap=options.cap,
        merge=(Task.IMAGE_CLASSIFICATION,) if options.merge_classification else (),
        unique=options.unique,
        repeat=options.repeat,
    )


def _shards(sampler: Sampler, epochs: int, rank: int) -> Iterator[Batch]:
    """Yield this process's shard of each batch."""
    while sampler.epoch < epochs:
        for batch in sampler:
            yield batch.shard(rank, world_size())


def _joined_processes(device: str | None) -> int:
    """Join the processes that `accelerate launch` started; return the rank."""
    from accelerate import PartialState

    return int(PartialState(cpu=device == "cpu").process_index)


def _schedule(
    optimizer: torch.optim.Optimizer, warmup: int, total: int
) -> torch.optim.lr_scheduler.LRScheduler:
    from transformers import get_cosine_schedule_with_warmup

    return get_cosine_schedule_with_warmup(optimizer, warmup, total)


@dataclass(frozen=True, slots=True)
class StepResult:
    """Metrics of a step: loss, share of masked negatives, norm of the gradient."""

    loss: float
    masked: float
    gradient_norm: float


class Step:
    """Forward, loss, backward, update: a large batch's exact gradient in a chunk's memory.

    Args:
        encoder: What is trained.
        loss: Any function of a batch's embeddings, the mean over this process's queries.
        parameters: All that are trained, of encoder and loss.
        run: Chunk size and gradient clipping.
        optimizer: Over the parameters.
        schedule: Of the learning rate.
    """

    def __init__(
        self,
        encoder: Encoder,
        loss: Callable[[BatchEmbeddings], Loss],
        parameters: Sequence[nn.Parameter],
        run: Run,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self._encoder = encoder
        self._loss = loss
        self._parameters = parameters
        self._optimizer = optimizer
        self._schedule = schedule
        self._chunk_tokens = run.batches.chunk_tokens
        self._max_norm = run.optimizer.largest_gradient

    def take(self, batch: PreparedBatch) -> StepResult:
        """Train on a batch; all processes must take the step together.

        Args:
            batch: This process's shard of it; at least one query.
        """
        self._optimizer.zero_grad(set_to_none=True)
        cache, (queries, own_positives, own_negatives) = self._embed(batch)
        positives = gather(own_positives)
        embeddings = BatchEmbeddings(
            tasks=batch.tasks,
            queries=queries,
            positives=positives.rows,
            negatives=gather(own_negatives).rows,
            offset=positives.offset,
            all_queries=lambda: gather(queries).rows,
        )
        loss = self._loss(embeddings)
        (loss.value * positives.weight).backward()
        if cache is not None:
            cache.backward()
        average_gradients(self._parameters)
        norm = nn.utils.clip_grad_norm_(self._parameters, self._max_norm)
        self._optimizer.step()
        self._schedule.step()
        own = torch.stack([loss.value.detach(), loss.masked]) * positives.weight
        value, masked = average(own).tolist()
        return StepResult(value, masked, float(norm))

    def _embed(
        self, batch: PreparedBatch
    ) -> tuple[GradCache[list[PreparedContent]] | None, list[Tensor]]:
        """Return the embeddings of queries, positives and negatives, and the cache behind them."""
        sides = [batch.queries, batch.positives, *([batch.negatives] if batch.negatives else [])]
        groups = [_Chunks.of(side, self._chunk_tokens) for side in sides]
        cache = None
        # A batch that fits into one chunk needs no caching, which costs a forward pass.
        if sum(group.padded for group in groups) <= self._chunk_tokens:
            found = [torch.cat([self._encoder(one) for one in group.chunks]) for group in groups]
        else:
            cache = GradCache(self._encoder, [group.chunks for group in groups])
            found = list(cache.embeddings)
        rows = [embeddings[one.back] for embeddings, one in zip(found, groups, strict=True)]
        return cache, rows if batch.negatives else [*rows, rows[0][:0]]


@dataclass(frozen=True, eq=False, slots=True)
class _Chunks:
    """Contents in chunks of similar length, and the index that restores their order."""

    chunks: list[list[PreparedContent]]
    back: Tensor

    @property
    def padded(self) -> int:
        """Return the number of tokens after padding."""
        return sum(len(one) * max(map(len, one)) for one in self.chunks)

    @classmethod
    def of(cls, contents: Sequence[PreparedContent], tokens: int) -> "_Chunks":
        groups = groups_of([len(content) for content in contents], tokens)
        order = [index for group in groups for index in group]
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        return cls([[contents[index] for index in group] for group in groups], back)
