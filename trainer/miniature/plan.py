"""What the ablation trains: a configuration for each ingredient of the recipe, by itself and all.

Everything but the ingredient is the same in all runs of a seed: they start from one stage-1 model,
see the same rows in the same number of steps, and use LoRA of the same rank.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from embedder.rzen.settings import Settings
from trainer.untrained import Shape

SHAPE = Shape(
    hidden=128,
    layers=2,
    heads=2,
    kv_heads=2,
    intermediate=384,
    vision_hidden=128,
    vision_layers=4,
    vision_heads=4,
    vocabulary=3000,
)
"""About two million parameters, most of them for seeing."""

BATCH = 64  # rows
TAU_RATE = 0.01  # in so few steps τ would hardly move at the rate of the model
TOKENS = 16  # of a picture of 112 × 112 pixels
SETTINGS = Settings(image_tokens=(TOKENS, TOKENS))
"""What an untrained model is told: as released, and to take pictures as small as they are."""

PROMPTS = (
    "Given an image, summarize the provided image in one word. "
    "Given only text, describe the text in one word.",
    "\nRepresent the given text in one word.",
    "\nRepresent the given image in one word.",
)
"""The paper's: of the system, of texts, of pictures."""

# Rows of an epoch, at most: about as many to find, to name and to sort.
CAPS = {"find-clipart": 2000, "find-by-keywords": 2000, "name": 3500, "sort-kinds": 2000}
OTHERS = 500  # rows of an epoch of each other set


@dataclass(frozen=True, slots=True)
class Variant:
    """A run of stage 2.

    Attributes:
        name: Of its folder.
        label: Of its line in the table.
        delta: Of the mask of false negatives; above 1 for none. The paper's is 0.95.
        hardness: Whether hard negatives weigh more, α = 9.
        temperatures: Whether there is a learned τ for each task.
        merged: Whether the classification sets are one.
        prompts: Whether there is the paper's system prompt, and its representation prompts.
        mix: Beginning of the names of the sets that come twice in an epoch, for soups.
    """

    name: str
    label: str
    delta: float = 2.0
    hardness: bool = False
    temperatures: bool = False
    merged: bool = False
    prompts: bool = False
    mix: str | None = None


BASELINE = Variant("baseline", "baseline: InfoNCE")
ALL = Variant(
    "all", "all together", delta=0.95, hardness=True, temperatures=True, merged=True, prompts=True
)
MIXES = (
    ALL,
    replace(ALL, name="mix-find", label="all, what finds twice", mix="find"),
    replace(ALL, name="mix-sort", label="all, what sorts twice", mix="sort"),
)
# A model this small finds many targets alike that are not: the mask is measured with a δ that only
# equal ones are above, too.
VARIANTS = (
    BASELINE,
    Variant("mask", "+ false-negative mask", delta=0.95),
    Variant("mask-equal", "+ mask of δ = 0.999", delta=0.999),
    Variant("hardness", "+ hardness weights", hardness=True),
    Variant("temperatures", "+ temperature per task", temperatures=True),
    Variant("merged", "+ merged classification", merged=True),
    Variant("prompts", "+ prompts", prompts=True),
    *MIXES,
)
SOUP = "soup"


def stage1(seed: int, data: Path) -> str:
    """The configuration of stage 1: everything learns, from nothing, to find pictures by words.

    Plain InfoNCE: what an untrained model embeds is all alike, so a mask would leave no negative.

    Args:
        seed: Of the run.
        data: The folder of sets; the configuration has it beside that of the seed.
    """
    return _config(
        out="stage1",
        seed=seed,
        model='base = "base"\nmethod = "full"',
        settings=_settings(),
        optimizer="learning_rate = 1e-3\nwarmup = 0.1\nepochs = 50\nsteps = 700",
        batches=f"size = {BATCH}",
        loss="alpha = 0.0\ndelta = 2.0\ntemperature = 0.05\nlearn_temperature = false",
        data=[_dataset(data, name, None, 1) for name in ("find-clipart", "find-by-keywords")],
    )


def stage2(seed: int, data: Path, variant: Variant) -> str:
    """The configuration of a run of stage 2; see `stage1`."""
    merged, learned = (json.dumps(one) for one in (variant.merged, variant.temperatures))
    alpha = 9.0 if variant.hardness else 0.0
    return _config(
        out=variant.name,
        seed=seed,
        model='base = "stage1/model"\nmethod = "lora"\nlora.rank = 16',
        settings=_settings(*(PROMPTS[:3] if variant.prompts else ())),
        optimizer=f"learning_rate = 1e-3\ntemperature_rate = {TAU_RATE}\nepochs = 9\nsteps = 180",
        batches=(
            f'size = {BATCH}\nmerge_classification = {merged}\nrepeat = ["image_classification"]'
        ),
        loss=(
            f"alpha = {alpha}\ndelta = {variant.delta}\n"
            f"temperature = 0.05\nlearn_temperature = {learned}"
        ),
        data=[
            _dataset(
                data,
                name,
                CAPS.get(name, OTHERS),
                2 if variant.mix and name.startswith(variant.mix) else 1,
            )
            for name in sorted(path.stem for path in data.glob("*.jsonl"))
        ],
    )


def _settings(*prompts: str) -> str:
    """The table of settings; prompts are the system's, that of texts and that of pictures."""
    names = ("system", "text_prompt", "visual_prompt")
    stated = [f"{name} = {json.dumps(told)}" for name, told in zip(names, prompts, strict=False)]
    return "\n".join([f"image_tokens = [{TOKENS}, {TOKENS}]", *stated])


def _config(
    *,
    out: str,
    seed: int,
    model: str,
    settings: str,
    optimizer: str,
    batches: str,
    loss: str,
    data: list[str],
) -> str:
    exact = 'device = "cpu"\ndtype = "float32"\ngradient_checkpointing = false'
    parts = [
        f"out = {json.dumps(out)}\nseed = {seed}\ncheckpoint_every = 60",
        f"[model]\n{model}\n{exact}",
        f"[settings]\n{settings}",
        f"[optimizer]\n{optimizer}",
        f"[batches]\n{batches}\nchunk_tokens = 32768",
        f"[loss]\n{loss}",
        *data,
    ]
    return "\n\n".join(parts) + "\n"


def _dataset(data: Path, name: str, cap: int | None, resampling: int) -> str:
    here = f"../{data.name}"
    lines = ["[[data]]", f'path = "{here}/{name}.jsonl"', f'media = "{here}/pictures"']
    lines += [f"cap = {cap}"] if cap else []
    lines += [f"resampling = {resampling}"] if resampling != 1 else []
    return "\n".join(lines)
