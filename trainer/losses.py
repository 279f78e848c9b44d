"""The contrastive loss of RzenEmbed (arXiv 2510.27350, section 3.3).

For a query q of task t with its positive k⁺, and the negatives kᵢ⁻ of the batch, with s the cosine:

    L = −log( e^{s(q,k⁺)/τ_t} / ( e^{s(q,k⁺)/τ_t} + Σᵢ wᵢ · e^{s(q,kᵢ⁻)/τ_t} ) )

    wᵢ  = e^{α·s(q,kᵢ⁻)}                             `log_hardness_weights`
    i runs over the negatives with s(kᵢ⁻,k⁺) ≤ δ     `false_negative_mask`
    τ_t = e^{θ_t}, one learned θ a task              `TaskTemperatures`

Without weights (α = 0), mask (δ > 1) and learning it is InfoNCE (arXiv 1807.03748). Everything but
the temperatures is a pure function of tensors. All is computed in float32 or better, also inside
autocast: at τ = 0.02 the rounding of bfloat16 would move a logit by up to 0.2.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from pydantic import dataclasses as pydantic_dataclasses
from torch import Tensor, nn
from torch.nn import functional

from trainer.data.examples import Task

TASKS = tuple(task.value for task in Task)
"""The tasks of the paper, each with its own temperature."""


@pydantic_dataclasses.dataclass(frozen=True, slots=True, config={"extra": "forbid"})
class LossConfig:
    """The options of `contrastive_loss`.

    The abstract of the paper applies α and δ in stage 2; stage 1 has InfoNCE: no
    weights, no mask, a fixed temperature.

    Attributes:
        alpha: How much harder negatives weigh more; 0 weighs all alike. Paper: 9.
        delta: A target more similar than this to the positive is no negative; above 1 all stay.
            Paper: 0.95.
        detach_weights: Whether no gradient flows through the weights. The paper does not say.
            True, as in the method it follows (LLaVE, arXiv 2503.04812): a weight says how much a
            negative counts. Otherwise a negative's gradient grows from 1/τ to 1/τ + α times its
            probability, so that α also does what the learned τ is for.
        two_sided: Whether targets look for their queries too; the loss is then the mean of both.
            The paper gives one direction, so False: retrieval asks with queries, and in several
            tasks (classes, answers) one target belongs to many queries.
        temperature: τ at the start. The paper does not say: 0.02 is usual among its peers
            (VLM2Vec, arXiv 2410.05160).
        learn_temperature: Whether τ_t is learned. Paper: yes.

    Raises:
        ValueError: some are out of range; the message names all of them.
    """

    alpha: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 9.0
    delta: Annotated[float, Field(gt=0)] = 0.95
    detach_weights: bool = True
    two_sided: bool = False
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.02
    learn_temperature: bool = True


@dataclass(frozen=True, eq=False, slots=True)
class Loss:
    """A loss and what logs show of it.

    Attributes:
        value: Scalar, with a gradient: the mean over the queries.
        masked: Scalar, without: the share of negatives that the mask took out of denominators.
    """

    value: Tensor
    masked: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class BatchEmbeddings:
    """What a loss gets in a training step; all rows are unit vectors.

    Attributes:
        tasks: Of each query.
        queries: (n, dim), of this process; at least one.
        positives: (N, dim), of all processes; that of query i is row offset + i.
        negatives: (M, dim), explicit ones of all processes; may be empty.
        offset: Rows of `positives` that belong to the processes before this one.
        all_queries: Gathers the queries of all processes, (N, dim); processes must call it
            together, so either all or none.
    """

    tasks: Sequence[str]
    queries: Tensor
    positives: Tensor
    negatives: Tensor
    offset: int
    all_queries: Callable[[], Tensor]


class TaskTemperatures(nn.Module):
    """One learned temperature a task, τ_t = e^{θ_t} (arXiv 2510.27350, section 3.3).

    Each θ_t is a parameter by itself, so that a batch without task t leaves its gradient None: an
    optimizer then neither moves it by its momentum nor decays it. Give these parameters no weight
    decay at all: it would pull θ to 0, which is τ to 1.

    Args:
        tasks: Their names, all different and without dots.
        start: τ of all tasks before the first step, above 0.
        learned: False keeps them there.
    """

    def __init__(
        self, tasks: Sequence[str] = TASKS, start: float = 0.02, *, learned: bool = True
    ) -> None:
        super().__init__()
        self.tasks = tuple(tasks)
        theta = torch.tensor(start, dtype=torch.float32).log()
        self.theta = nn.ParameterDict(
            {task: nn.Parameter(theta.clone(), requires_grad=learned) for task in tasks}
        )

    def forward(self, tasks: Sequence[str]) -> Tensor:
        """Return the temperatures of queries.

        Args:
            tasks: Of each query, at least one.

        Returns:
            Float32 tensor (len(tasks),).

        Raises:
            KeyError: a task is not one of `self.tasks`.
        """
        if unknown := set(tasks).difference(self.tasks):
            raise KeyError(
                f"no temperature for {', '.join(sorted(unknown))}; known tasks: "
                f"{', '.join(self.tasks)}"
            )
        # Once a task, so that the gradients of its queries meet in one place.
        known = {task: self.theta[task].exp() for task in dict.fromkeys(tasks)}
        return torch.stack([known[task] for task in tasks])

    def values(self) -> dict[str, float]:
        """Return τ of every task, for logs."""
        return {task: theta.exp().item() for task, theta in self.theta.items()}


class ContrastiveLoss:
    """`contrastive_loss` of a step's embeddings, with a temperature for each task.

    Args:
        temperatures: Of the tasks.
        config: Weights, mask and sides.
    """

    def __init__(self, temperatures: TaskTemperatures, config: LossConfig) -> None:
        self._temperatures = temperatures
        self._config = config

    def __call__(self, batch: BatchEmbeddings) -> Loss:
        """Compute the mean loss over this process's queries."""
        return contrastive_loss(
            batch.queries,
            batch.positives,
            batch.negatives,
            temperatures=self._temperatures(batch.tasks),
            config=self._config,
            offset=batch.offset,
            all_queries=batch.all_queries() if self._config.two_sided else None,
        )


def contrastive_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor | None = None,
    *,
    temperatures: Tensor | float,
    config: LossConfig,
    offset: int = 0,
    all_queries: Tensor | None = None,
) -> Loss:
    """Compute the loss of this process's queries among the targets of all processes.

    1. Every positive and every explicit negative is a candidate for every query, whosever it is.
    2. Logits s/τ; those of negatives plus α·s, the logarithm of their weight.
    3. Candidates that `false_negative_mask` names leave: their logit is −∞.
    4. Cross-entropy towards the query's own positive.

    Two-sided, the positives of this process look for their query among those of all processes in
    the same way (explicit negatives have no query and take no part): query j leaves the
    denominator of positive i where s(k⁺ⱼ, k⁺ᵢ) > δ, since it asks for about the same thing. The
    loss is the mean of the two sides.

    Args:
        queries: (n, dim) with unit rows, of this process; at least one.
        positives: (N, dim) with unit rows, of all processes; that of query i is row offset + i.
        negatives: (M, dim) with unit rows, explicit ones of all processes; None or empty for none.
        temperatures: (n,), τ of each query; or one for all.
        config: Weights, mask and sides; its own temperature is not used here.
        offset: Rows of `positives` that belong to the processes before this one.
        all_queries: (N, dim); only two-sided and with several processes.

    Returns:
        The mean over this process's n queries.

    Raises:
        ValueError: the shapes do not belong together.

    Source:
        arXiv 2510.27350, section 3.3; the equation is at the top of this module.
    """
    count = len(queries)
    if not 0 < count <= len(positives) - offset or offset < 0:
        raise ValueError(
            f"{count} queries from row {offset} on do not match {len(positives)} positives: each "
            f"query needs one, and there must be at least one query"
        )
    everyone = queries if all_queries is None else all_queries
    if config.two_sided and len(everyone) != len(positives):
        raise ValueError(
            f"a two-sided loss of {len(positives)} positives needs the queries of all processes, "
            f"not {len(everyone)}: pass all_queries"
        )
    targets = positives if negatives is None else torch.cat([positives, negatives])
    own = positives[offset : offset + count]
    columns = torch.arange(offset, offset + count, device=queries.device)
    if isinstance(temperatures, Tensor):
        temperatures = temperatures.expand(count)[:, None]

    mask = false_negative_mask(targets, own, columns, config.delta)
    sides = [(similarities(queries, targets), mask)]
    if config.two_sided:
        sides.append((similarities(own, everyone), mask[:, : len(positives)]))
    losses, masked, candidates = [], mask.new_zeros((), dtype=torch.float32), 0
    for cosines, leaving in sides:
        weights = log_hardness_weights(cosines, config.alpha, detach=config.detach_weights)
        # The positive has no weight.
        logits = cosines / temperatures + weights.scatter(1, columns[:, None], 0.0)
        logits = logits.masked_fill(leaving, -torch.inf)
        losses.append(functional.cross_entropy(logits, columns))
        masked = masked + leaving.sum()
        candidates += leaving.numel() - count
    return Loss(torch.stack(losses).mean(), masked / max(1, candidates))


def similarities(rows: Tensor, columns: Tensor) -> Tensor:
    """Return cosines, in float32 or better.

    Args:
        rows: (n, dim) with unit rows.
        columns: (m, dim) with unit rows.

    Returns:
        (n, m).
    """
    precise = torch.promote_types(rows.dtype, torch.float32)
    with torch.autocast(rows.device.type, enabled=False):
        return rows.to(precise) @ columns.to(precise).T


def false_negative_mask(
    targets: Tensor, positives: Tensor, columns: Tensor, delta: float
) -> Tensor:
    """Mark targets to leave out of a query's denominator: s(kᵢ⁻, k⁺) > δ.

    Target is held against target, not against the query: what is nearly the positive is as right
    an answer. Explicit negatives are held to it like the others.

    Args:
        targets: (m, dim) with unit rows: all positives, then all explicit negatives.
        positives: (n, dim) with unit rows: of each query.
        columns: Int64 (n,): where each query's own positive is among the targets; it stays.
        delta: Above 1 everything stays, whatever rounding makes of a cosine of 1.

    Returns:
        Bool (n, m), without a gradient.

    Source:
        arXiv 2510.27350, section 3.3.
    """
    if delta > 1:
        return torch.zeros(len(positives), len(targets), dtype=torch.bool, device=targets.device)
    with torch.no_grad():
        return (similarities(positives, targets) > delta).scatter(1, columns[:, None], False)


def log_hardness_weights(cosines: Tensor, alpha: float, *, detach: bool) -> Tensor:
    """Return log wᵢ = α · s(q, kᵢ⁻): the harder a negative, the more it weighs.

    The logarithm, since in log-sum-exp a factor is a summand, which cannot overflow.

    Args:
        cosines: (n, m).
        alpha: How much more.
        detach: Whether no gradient flows through the weights.

    Returns:
        (n, m).

    Source:
        arXiv 2510.27350, section 3.3; after LLaVE, arXiv 2503.04812.
    """
    return alpha * (cosines.detach() if detach else cosines)
