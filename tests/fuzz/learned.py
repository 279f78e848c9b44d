"""Targets for training: examples, configurations of runs, evaluation sets."""

import inspect
import json
import math
from pathlib import Path

from embedder.mllm.settings import Settings
from trainer.config import BadConfig, Run
from trainer.data.examples import ErrorBudget, Task
from trainer.data.readers import read_jsonl
from trainer.evaluation.formats import is_mmeb, is_native, read_mmeb, read_native
from trainer.evaluation.sets import ABOUT_FILE, BadSet

from . import world
from .mutation import altered


def rows(data: bytes) -> None:
    """Each line of a file of examples is used or counted as broken."""
    path = world.folder("rows") / "rows.jsonl"
    path.write_bytes(data)
    (path.parent / "a.png").touch()
    errors = ErrorBudget(limit=1.0)
    found = list(read_jsonl(path, errors, Task.IMAGE_RETRIEVAL))
    assert len(found) == errors.used
    assert errors.used + errors.broken == sum(1 for line in data.split(b"\n") if line.strip())


def runs(data: bytes) -> None:
    """A configuration of a run has usable settings, or is refused in a sentence."""
    path = world.folder("runs") / "run.toml"
    path.write_bytes(data)
    try:
        run = Run.read(path)
    except BadConfig as error:
        assert str(path) in str(error)
        return
    assert run.data
    assert run.out.is_absolute()
    Settings.of_values(run.settings)


def sets(data: bytes) -> None:
    """An evaluation set has queries whose answers are in it, or is refused in a sentence."""
    folder, cache = world.folder("sets"), world.folder("cache") / "pictures"
    about, *parts = data.split(_PART)
    for name in {name for layout in _LAYOUTS for name in layout} | {ABOUT_FILE}:
        (folder / name).unlink(missing_ok=True)
    if about.strip():
        (folder / ABOUT_FILE).write_bytes(about)
    for name, part in zip(_LAYOUTS[len(about) % len(_LAYOUTS)], parts, strict=False):
        (folder / name).write_bytes(part)
    try:
        if is_native(folder):
            found = read_native(folder)
        elif is_mmeb(folder):
            found = read_mmeb(folder, None, cache)
        else:
            return
    except BadSet as error:
        assert str(folder) in str(error)
        return
    assert found.queries
    for query in found.queries:
        among = found.candidates if query.candidates is None else query.candidates
        assert query.grades
        assert set(query.grades) <= set(among)
        assert set(among) <= set(found.candidates)
        assert all(0 < grade < math.inf for grade in query.grades.values())
    assert found.target
    assert found.limited(1).queries == found.queries[:1]
    beside = {one for one in cache.parent.iterdir() if one != cache}
    assert not beside, beside


_PART = b"\n\0\n"
_LAYOUTS = (
    ("queries.jsonl", "candidates.jsonl", "qrels.jsonl"),
    ("rows.jsonl",),
    ("test.jsonl",),
    ("queries.x.jsonl", "corpus.jsonl", "qrels.x.jsonl"),
)
"""File names; the length of `dataset.json` selects one, so that a seed can."""


def _set(layout: int, *parts: object, about: str = "") -> bytes:
    """Build a seed; a value becomes a line of JSON, a list several."""
    about += " " * ((layout - len(about)) % len(_LAYOUTS))
    files = ["\n".join(map(json.dumps, part)) if isinstance(part, list) else part for part in parts]
    return _PART.join([about.encode(), *(str(one).encode() for one in files)])


_QUERY = {"id": "q", "text": "a", "candidates": ["c"], "modality": "text", "instruction": "x"}
_CANDIDATES = [{"id": "c", "image": "a.png", "images": ["b.png"], "modality": "video"}]
_JUDGED = {"query": "q", "candidate": "c", "relevance": 2}
_ROW = {"query": {"text": "a"}, "candidates": [{"pdf": "a.pdf", "page": 2}], "label": [0]}
_MMEB = {
    "qry_text": "<|image_1|> a",
    "qry_img_path": "a.png",
    "qry_inst": "x",
    "tgt_text": ["b", ""],
    "tgt_img_path": ["", "b.png"],
    "tgt_inst": "y",
}
_ASKED = {"query-id": 1, "query": "a", "language": "en"}
_PAGE = {"corpus-id": 2, "image": {"path": "a.png"}}
_SCORED = {"query-id": 1, "corpus-id": 2, "score": 1}
_ABOUT = {"name": "x", "category": "image", "metric": "hit@1", "images": "y", "language": "en"}


def sets_seeds() -> list[bytes]:
    """Return sets of all layouts, each with one value or key removed or replaced."""
    judged, candidates = [_JUDGED], _CANDIDATES
    return [
        _set(0, [_QUERY], candidates, judged),
        *(_set(0, one, candidates, judged) for one in _each(_QUERY)),
        *(_set(0, [_QUERY], one, judged) for one in _each(candidates[0])),
        *(_set(0, [_QUERY], candidates, one) for one in _each(_JUDGED)),
        *(_set(1, [_ROW, json.loads(one)]) for one in _each(_ROW)),
        *(_set(2, [_MMEB, json.loads(one)]) for one in _each(_MMEB)),
        *(_set(3, one, [_PAGE], [_SCORED]) for one in _each(_ASKED)),
        *(_set(3, [_ASKED], one, [_SCORED]) for one in _each(_PAGE)),
        *(_set(3, [_ASKED], [_PAGE], one) for one in _each(_SCORED)),
        *(_set(1, [_ROW], about=one) for one in _each(_ABOUT)),
        *(_set(layout, *["[" * 3000] * 3) for layout in range(len(_LAYOUTS))),
        _set(1, []),
        _set(0, [], candidates, judged),
        _set(1, [_ROW], about="9" * 5000),
        _set(1, [_ROW], about='{"name": ".."}'),
    ]


def _each(value: object) -> list[str]:
    return [json.dumps(value), *altered(json.dumps(value))]


ROWS = [
    '{"query": "a", "positive": {"images": "a.png"}, "negatives": ["b", {"text": "c"}]}',
    '{"query": "a", "positive": "a.png"}\n"x"\n',
    '{"query": {"pdf": "a.png", "page": -1}, "positive": "a"}\n{"query": {"images": ["a.png"]}}',
    '{"query": "a", "positive": "b", "task": [], "dataset": 3, "_note": 0}\n\xa0\n\x0b',
    '{"query": {"modality": {}, "text": "\\ud800"}, "positive": {"video": "' + "x" * 300 + '"}}',
    "[" * 3000,
]

_RUN = 'out = "x"\n[model]\nbase = "b"\n[[data]]\npath = "d"\n'
_SHIPPED = Path(inspect.getfile(Run)).with_name("configs")
RUNS = [
    *(one.read_bytes() for one in sorted(_SHIPPED.glob("*.toml"))),
    _RUN + '[settings]\npooling = "mean"\ndocument_instructions = {image = "x"}\n',
    _RUN + '[settings]\ndocument_instructions = {" image" = "x"}\n',
    _RUN + '[settings]\nquery_instructions = {"text  image" = "x", "text" = 1}\nframes = inf\n',
    _RUN + "[batches]\nsize = nan\n[optimizer]\nlearning_rate = nan\nwarmup = nan\n",
    _RUN.replace('"d"', '"\\u0000"').replace('"b"', '"' + "b" * 300 + '"'),
    "settings = 3\n" + _RUN,
    "a = " + "[" * 3000,
    "a = " + "9" * 5000,
]
