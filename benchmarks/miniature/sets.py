"""What the ablation trains: a configuration for each ingredient, and the data of all.

Everything but the ingredient is the same in all runs of a seed: they start from one stage-1 model,
see the same rows in the same number of steps, and use LoRA of the same rank.

The data are clip art and Tux Paint's stamps (`trainer.mini.pictures`) at 112 × 112 pixels, with
noise and near-duplicates as they are; only large groups of variants are thinned out. Whole groups
are held out: no variant of a held-out drawing is trained on.
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.untrained import Shape
from embedder.media import Limits, MediaError, read_picture
from embedder.mllm.settings import Settings
from trainer.data.examples import Task, Unreadable
from trainer.mini.pictures import Drawing, centred, drawings, limited, stamps

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
TAU_RATE = 0.01  # at the model's rate τ would hardly move in this few steps
TOKENS = 16  # of a picture of 112 × 112 pixels
SETTINGS = Settings(image_tokens=(TOKENS, TOKENS))
"""Of the untrained model: as released, with limits that suit small pictures."""
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
SOUP = "soup"
logger = logging.getLogger(__name__)
SIDE = 112  # pixels: 16 tokens
FIND, NAME, SORT = INSTRUCTIONS = (
    "Find the picture: ",
    "What does it show?",
    "What sort of thing is it?",
)
_MAX_OF_A_GROUP = 10
_MIN_LABELS, _MIN_ROWS = 3, 24  # of a classification set, of a label
_HELD_OUT_STAMPS = 25  # of 100
_MIN_MEASURED_PAIRS = 40  # of a held-out set; with fewer, scores would be chance


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
        prompts: Whether to use the paper's system and representation prompts.
        mix: Prefix of the names of the sets that come twice in an epoch, for soups.
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


# A model this small finds many different targets alike: the mask is also measured with a δ that
# only equal ones exceed.
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


def stage1(seed: int, data: Path) -> str:
    """Return stage 1's configuration: train everything from scratch on pictures and words.

    Plain InfoNCE: an untrained model's embeddings are all alike, so a mask would leave no negative.

    Args:
        seed: Of the run.
        data: The folder of sets, beside that of the seed.
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
    """Return the configuration of a run of stage 2; see `stage1`."""
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
    """Format the settings table; prompts are system, text and visual."""
    names = ("system", "text_prompt", "visual_prompt")
    lines = [f"{name} = {json.dumps(text)}" for name, text in zip(names, prompts, strict=False)]
    return "\n".join([f"image_tokens = [{TOKENS}, {TOKENS}]", *lines])


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


@dataclass(frozen=True, slots=True)
class Pictured:
    """A picture at `SIDE` with its metadata.

    Attributes:
        file: Its name in the folder of pictures.
        title: What it shows.
        keywords: More words, general ones among them.
        labels: Classification sets that it belongs to, each with its label.
        source: "clipart" or "stamps".
        held_out: Whether it is held out for measuring.
    """

    file: str
    title: str
    keywords: tuple[str, ...]
    labels: tuple[tuple[str, str], ...]
    source: str
    held_out: bool


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and its positive, as sides of our JSON Lines."""

    query: dict[str, Any]
    positive: dict[str, Any]


def write(folder: Path) -> list[str]:
    """Write pictures, training rows and held-out sets; return every text.

    The folder has `pictures/`, a JSON Lines file for each training set, and in `held-out/` a
    folder for each set to measure on, in the layout of `trainer.evaluation.formats`.

    Raises:
        Unreadable: a package is not installed; the message says what to install.
    """
    (folder / "pictures").mkdir(parents=True)
    found = [*_clipart(folder / "pictures"), *_stamps(folder / "pictures")]
    for held_out in (False, True):
        part = [one for one in found if one.held_out is held_out]
        for name, task, metric, pairs in _sets(part):
            if held_out and len(pairs) >= _MIN_MEASURED_PAIRS:
                _write_held_out(folder / "held-out" / name, pairs, metric)
            elif not held_out:
                _write_rows(folder / f"{name}.jsonl", task, pairs)
    texts = [one.title for one in found] + [word for one in found for word in one.keywords]
    return [*texts, *(label for one in found for _, label in one.labels)]


def _clipart(folder: Path) -> list[Pictured]:
    chosen = limited(drawings(), _MAX_OF_A_GROUP)
    labels = _labels(chosen)
    found = []
    for number, one in enumerate(chosen):
        name = f"c{number:04}.png"
        try:
            picture = read_picture(one.path, Limits(frame_side=4 * SIDE))
        except MediaError as error:
            logger.warning("skipped %s: %s", one.path, error)
            continue
        _save(picture, folder / name)
        found.append(Pictured(name, one.title, one.keywords, labels[one], "clipart", one.held_out))
    return found


def _labels(given: Sequence[Drawing]) -> dict[Drawing, tuple[tuple[str, str], ...]]:
    """Use the top folder as label of "kinds", and the one below as label of a set each."""
    found: dict[Drawing, list[tuple[str, str]]] = defaultdict(list)
    for one in given:
        top, _, rest = one.category.partition("/")
        found[one].append(("kinds", top))
        if rest:
            found[one].append((top, rest.rpartition("/")[2]))
    rows = Counter(label for labels in found.values() for label in labels)
    usual = {label for label, count in rows.items() if count >= _MIN_ROWS}
    sets = Counter(name for name, _ in usual)
    return {
        one: tuple(
            (name, label.replace("_", " "))
            for name, label in found[one]
            if (name, label) in usual and sets[name] >= _MIN_LABELS
        )
        for one in given
    }


def _stamps(folder: Path) -> list[Pictured]:
    found = []
    for number, stamp in enumerate(stamps()):
        _save(stamp.image, folder / f"s{number:04}.png")
        sort = Path(stamp.source).parts[5]
        group = hashlib.blake2b(stamp.caption.lower().encode(), digest_size=8).digest()
        held_out = int.from_bytes(group) % 100 < _HELD_OUT_STAMPS
        labels = (("stamps", sort),)
        found.append(Pictured(f"s{number:04}.png", stamp.caption, (), labels, "stamps", held_out))
    if not found:
        raise Unreadable("no stamps are installed: apt-get install tuxpaint-stamps-default")
    return found


def _save(image: Image.Image, path: Path) -> None:
    """Save the picture in the middle of a white square."""
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    centred(image, SIDE).save(path)


def _sets(given: Sequence[Pictured]) -> Iterable[tuple[str, Task, str, list[Pair]]]:
    """Yield name, task, metric and pairs of each set."""
    for source in ("clipart", "stamps"):
        pairs = [
            Pair({"text": one.title}, {"images": one.file}) for one in given if one.source == source
        ]
        yield f"find-{source}", Task.IMAGE_RETRIEVAL, "hit@10", pairs
    pairs = [
        Pair({"text": ", ".join(one.keywords[:4])}, {"images": one.file})
        for one in given
        if one.keywords
    ]
    yield "find-by-keywords", Task.IMAGE_RETRIEVAL, "hit@10", pairs
    pairs = [Pair({"images": one.file}, {"text": one.title}) for one in given]
    yield "name", Task.IMAGE_QA, "hit@10", pairs
    for name in dict.fromkeys(name for one in given for name, _ in one.labels):
        pairs = [
            Pair({"images": one.file}, {"text": dict(one.labels)[name]})
            for one in given
            if name in dict(one.labels)
        ]
        yield f"sort-{name.replace('_', '-')}", Task.IMAGE_CLASSIFICATION, "hit@1", pairs


def _instruction(name: str) -> str:
    return FIND if name.startswith("find") else NAME if name == "name" else SORT


def _write_rows(path: Path, task: Task, pairs: Sequence[Pair]) -> None:
    fields = {"task": task, "instruction": _instruction(path.stem), "target_instruction": ""}
    _write_lines(path, [{"query": one.query, "positive": one.positive, **fields} for one in pairs])


def _write_held_out(folder: Path, pairs: Sequence[Pair], metric: str) -> None:
    """Merge equal candidates; all that share a query's words are relevant."""
    folder.mkdir(parents=True)
    about = {"metric": metric, "category": "image", "images": "../../pictures"}
    (folder / "dataset.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    instruction = _instruction(folder.name)
    query_sides = dict.fromkeys(json.dumps(one.query) for one in pairs)
    positive_sides = dict.fromkeys(json.dumps(one.positive) for one in pairs)
    queries = {side: f"q{number}" for number, side in enumerate(query_sides)}
    candidates = {side: f"c{number}" for number, side in enumerate(positive_sides)}
    right = dict.fromkeys(
        (queries[json.dumps(one.query)], candidates[json.dumps(one.positive)]) for one in pairs
    )
    _write_lines(
        folder / "queries.jsonl",
        [_entry(key, side, instruction) for side, key in queries.items()],
    )
    _write_lines(
        folder / "candidates.jsonl",
        [_entry(key, side, "") for side, key in candidates.items()],
    )
    _write_lines(folder / "qrels.jsonl", [{"query": q, "candidate": c} for q, c in right])


def _entry(key: str, encoded: str, instruction: str) -> dict[str, Any]:
    """Return a side in the form of evaluation sets."""
    side = json.loads(encoded)
    named = {"image": side["images"]} if "images" in side else side
    return {"id": key, **named, "instruction": instruction}


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
