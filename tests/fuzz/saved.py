"""Targets for files on disk that another person may have written."""

import hashlib
import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from embedder import EmbedderUnavailable
from embedder.interface import normalised
from embedder.media import Kind
from embedder.media.kinds import sha256_of
from embedder.mini.embedder import MANIFEST, Weights
from embedder.mllm.checkpoint import Checkpoint
from embedder.mllm.settings import SETTINGS_FILE, Settings
from indexer.config import LIBRARY_FILE
from indexer.errors import LibraryError
from indexer.maintenance.backup import FILE_LIST, back_up, restore
from indexer.maintenance.backup import MANIFEST as BACKUP
from indexer.maintenance.storage import open_storage
from indexer.vectors import SearchFilter
from indexer.vectors.faiss_index import FaissIndex
from indexer.vectors.partition import IndexPolicy
from indexer.vectors.storage import STATE_FILE, damaged_files, put_state, state_of

from . import world
from .mutation import altered

_DIM = 16


def states(data: bytes) -> None:
    """A state of the vector index can be searched, or counts as missing."""
    directory, _ = _stored()
    try:
        # As an attacker would: a checksum that agrees.
        value = json.loads(data)
        value.pop("crc32")
        put_state(directory, value)
    except (ValueError, RecursionError, AttributeError, KeyError, TypeError):
        (directory / STATE_FILE).write_bytes(data)
    loaded = FaissIndex.load(directory, "me", _DIM)
    if loaded is None:
        return
    store, generation = loaded
    assert 0 <= generation == state_of(directory)["generation"] < 2**63
    assert all(isinstance(name, str) for name in damaged_files(directory))
    counted = 0
    for kind in store.kinds:
        scores, found = store.search(_rows(1)[0], 5, kind)
        assert len(found) == len(scores) == min(5, store.describe()[kind].vectors)
        store.search(_rows(1)[0], 5, kind, SearchFilter(), np.arange(40))
        counted += store.describe()[kind].vectors
    assert counted == len(store)


def backups(data: bytes) -> None:
    """A backup is restored into its folder and nowhere else, or is refused in a sentence."""
    source = _backup()
    manifest, _, names = data.partition(b"\0")
    (source / FILE_LIST).write_bytes(names)
    try:
        # As an attacker would: checksums that agree.
        value = json.loads(manifest)
        if isinstance(value, dict) and value.get("list") == "":
            value["list"] = sha256_of(source / FILE_LIST)
            value["database"] = sha256_of(source / LIBRARY_FILE)
        manifest = json.dumps(value).encode()
    except (ValueError, RecursionError):
        pass
    (source / BACKUP).write_bytes(manifest)
    below = world.folder("restored")
    target = below / "a" / "b" / "library"
    try:
        restore(source, target)
    except LibraryError as error:
        assert str(error)
    else:
        assert (target / LIBRARY_FILE).is_file()
    shutil.rmtree(target, ignore_errors=True)
    left = {one for one in below.rglob("*") if not one.is_dir()}
    assert not left, left


def settings(data: bytes) -> None:
    """An rzen.json holds settings that survive a round trip, or is refused in a sentence."""
    directory = world.folder("settings")
    (directory / SETTINGS_FILE).write_bytes(data)
    try:
        found = Settings.of(directory)
    except EmbedderUnavailable as error:
        assert SETTINGS_FILE in str(error)
        return
    assert Settings.of_values(json.loads(found.stated())) == found


def checkpoints(data: bytes) -> None:
    """A folder is a checkpoint with a size and a digest, or is refused in a sentence."""
    directory = world.folder("checkpoint")
    config, pictures, index, header, *rest = [*data.split(b"\n", 4), *[b""] * 4]
    for name, content in {
        "config.json": config,
        "tokenizer.json": b"{}",
        "preprocessor_config.json": pictures,
        "model.safetensors.index.json": index,
        "model.safetensors": len(header).to_bytes(8, "little") + header + rest[0]
        if header
        else rest[0],
    }.items():
        (directory / name).unlink(missing_ok=True)
        if content:
            (directory / name).write_bytes(content)
    try:
        found = Checkpoint.find(str(directory))
    except EmbedderUnavailable as error:
        assert str(error)
        return
    assert found.dim > 0
    assert found.parameters >= 0
    assert len(found.digest) == 64


def weights(data: bytes) -> None:
    """A manifest of weights is valid or refused; only files it vouches for are read."""
    directory = world.folder("weights")
    (directory / "a.bin").write_bytes(b"weights")
    (directory / MANIFEST).write_bytes(data)
    try:
        found = Weights(directory)
        assert len(found.revision) == 12
        assert found.read("a.bin") == b"weights"
    except EmbedderUnavailable as error:
        assert "install" in str(error)
        return
    assert found.files["a.bin"]["sha256"] == hashlib.sha256(b"weights").hexdigest()


def _rows(count: int) -> np.ndarray:
    return normalised(np.random.default_rng(count).normal(size=(count, _DIM)))


@cache
def _stored() -> tuple[Path, str]:
    """Save an index that is searched in both ways; return its folder and state."""
    directory = world.folder("vectors")
    store = FaissIndex(_DIM, policy=IndexPolicy(exact_components=100 * _DIM, speed=1e9))
    store.add(Kind.TEXT, np.arange(20), _rows(20))
    store.add(Kind.IMAGE, np.arange(30, 430), _rows(400))
    store.settle()
    store.save(directory, "me", 3)
    store.close()
    state = (directory / STATE_FILE).read_text()
    for number, path in enumerate(sorted(directory.iterdir())):
        if path.name != STATE_FILE:
            state = state.replace(path.name, f"{number}.x")
            path.rename(directory / f"{number}.x")
    return directory, state


def _changed(state: str, change: Callable[[Any], None]) -> str:
    value = json.loads(state)
    change(value)
    return json.dumps(value)


def states_seeds() -> list[str]:
    """Return a saved state, and variants of it."""
    _, state = _stored()

    def tuned(**values: object) -> Callable[[Any], None]:
        return lambda value: value["partitions"]["image"]["description"]["tuning"].update(values)

    def partly(**values: object) -> Callable[[Any], None]:
        return lambda value: value["partitions"]["image"].update(values)

    changes = [
        *(
            lambda value, new=new: value.update(new)
            for new in ({"generation": 1e999}, {"dim": 1e999})
        ),
        *(tuned(probes=probes) for probes in ("x", 0, -1, 1e999, None)),
        *(tuned(candidates=candidates) for candidates in ([], [0, 0], ["a", "b"], [1e30, 1e30])),
        *(partly(**values) for values in ({"refused": 1e999}, {"ascending": -1}, {"files": [3]})),
        lambda value: value["partitions"]["image"]["files"].update(rows=[]),
        lambda value: value["partitions"]["image"]["lists"].update(covered=1e999),
        lambda value: value["partitions"]["image"]["lists"].update(covered=-5),
        lambda value: value["partitions"]["image"]["files"]["lists"].update(bytes=1e999),
        lambda value: value["partitions"].update(other=value["partitions"]["text"]),
        lambda value: value["partitions"]["text"]["files"]["ids"].update(name="../x"),
    ]
    changed = (_changed(state, change) for change in changes)
    return [state, "[" * 3000, "null", *changed]


@cache
def _backup() -> Path:
    """Make a backup; return its folder."""
    source = world.folder("backups") / "backup"
    with open_storage(world.library().directory) as place:
        back_up(place, source)
    (source / "uploads").mkdir(exist_ok=True)
    (source / "uploads" / "a.txt").write_text("a")
    (source.parent / "outside.txt").write_text("a")
    return source


_A = {"bytes": 1, "sha256": hashlib.sha256(b"a").hexdigest()}


def _listing(*paths: object, **manifest: object) -> bytes:
    stated = {"format": 1, "directory": "/", "items": 2, "files": 1, "list": ""} | manifest
    lines = "".join(json.dumps({"path": path} | _A) + "\n" for path in paths)
    return json.dumps(stated).encode() + b"\0" + lines.encode()


_HEAD, _LINE = _listing("uploads/a.txt").split(b"\0")
BACKUPS = [
    _listing("uploads/a.txt"),
    *(one.encode() + b"\0" + _LINE for one in altered(_HEAD)),
    *(_HEAD + b"\0" + one.encode() for one in altered(_LINE)),
    _listing("../outside.txt"),
    _listing("uploads/../../outside.txt"),
    _listing("backup.json", "library.sqlite3"),
    _listing(3),
    _listing("uploads/a.txt\0"),
    _listing("uploads/a.txt", directory=3),
    _listing("uploads/a.txt", format=1e999),
    _listing("uploads/a.txt", files="x", items="y"),
    b"[" * 3000 + b"\0",
    b'{"format": 1, "list": ""}\0[1]\n',
    b'{"format": 1, "list": ""}\0' + b"[" * 3000,
]
SETTINGS = [
    Settings().stated(),
    '{"positions": "mrope", "image_tokens": [4, 8], "query_instructions": {"text image": "x"}}',
    '{"image_tokens": [true, 1e999], "frames": 1e999, "format": "x", "positions": []}',
    '{"document_instructions": {" image": "x"}, "query_instructions": {"text  image": "x"}}',
    '{"query_instructions": {"text": 1}, "document_instructions": [], "system": "\\ud800"}',
    "[" * 3000,
    "9" * 5000,
]
_HEADER = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}
_CONFIG = {"model_type": "qwen2_vl", "hidden_size": 8, "vision_config": {"patch_size": 14}}


def _checkpoint(config: object = _CONFIG, pictures: str = "", index: str = "", **header: object):
    said = json.dumps({"a": _HEADER["a"] | header})
    return "\n".join([json.dumps(config), pictures, index, said, ""]).encode() + bytes(16)


CHECKPOINTS = [
    _checkpoint(),
    *(_checkpoint(json.loads(one)) for one in altered(json.dumps(_CONFIG))),
    *(_checkpoint(**json.loads(one)) for one in altered(json.dumps(_HEADER["a"]))),
    _checkpoint(pictures='{"image_mean": [0.5, 0.5, 0.5], "image_std": 1}'),
    _checkpoint(pictures='{"image_mean": "abc", "image_std": ["a"]}'),
    _checkpoint(index='{"weight_map": {"a": "model.safetensors"}}'),
    _checkpoint(index='{"weight_map": ["a"]}'),
    _checkpoint(index='{"weight_map": {"a": 3, "b": "x\\u0000"}}'),
    _checkpoint({"model_type": "qwen2_vl"}),
    _checkpoint(_CONFIG | {"vision_config": [3], "text_config": 3}),
    _checkpoint(_CONFIG | {"hidden_size": "x"}),
    _checkpoint(data_offsets=[-5, 3]),
    _checkpoint(data_offsets=[9, 3]),
    _checkpoint(data_offsets=["a", 3]),
    _checkpoint(shape=[-1, "x"]),
    _checkpoint(shape=None),
    _checkpoint(dtype=None),
    b"[" * 3000,
    b"{}\n\n\n\n\xff\xff\xff\xff\xff\xff\xff\xff",
]
WEIGHTS = [
    json.dumps(
        {
            "schema": 1,
            "files": {
                "a.bin": {"sha256": hashlib.sha256(b"weights").hexdigest(), "in_revision": True}
            },
        }
    ),
    '{"schema": 1, "files": {"a.bin": {"sha256": 3, "in_revision": true}}}',
    '{"schema": 1, "files": {"a.bin": 3}}',
    '{"schema": 1, "files": []}',
    '{"schema": 1}',
    "[]",
    "[" * 3000,
]
