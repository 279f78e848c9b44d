"""A training run, read from top to bottom; the stages differ in what their contents are told."""

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import torch
from torch import distributed

from embedder.rzen.template import Template
from trainer.batches import Batch
from trainer.collecting import collected
from trainer.config import Run
from trainer.data.ledger import Ledger
from trainer.feeding import Feeder
from trainer.gathering import world_size
from trainer.learner import Learner
from trainer.logbook import Logbook
from trainer.lora import counts
from trainer.restarts import Place, Restarts
from trainer.sampling import Sampler
from trainer.stepping import Step
from trainer.tasks import Task

_log = logging.getLogger(__name__)


def train(run: Run, *, instructions: bool, resume: bool = False) -> Path:
    """Trains, and writes a checkpoint that opens as "rzen:OUT/model".

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
    """This process's part of each batch."""
    while sampler.epoch < epochs:
        for batch in sampler:
            yield batch.shard(rank, world_size())


def _joined_processes(device: str | None) -> int:
    """Joins the other processes where `accelerate launch` has started several; the rank."""
    from accelerate import PartialState

    return int(PartialState(cpu=device == "cpu").process_index)


def _all(flag: bool) -> bool:
    """Whether it holds in every process."""
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
