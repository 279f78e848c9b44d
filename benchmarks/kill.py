"""Kill a library's programs at random moments and check that nothing is lost.

    python -m benchmarks.kill --times 200

Each round changes some files, starts an ingest, a removal, a re-embedding, a compaction or a backup
in a separate process, kills it with SIGKILL after a random part of its time, and examines the
library: `rzen-admin check` finds no fault, everything committed before is there and is found by a
search, once; and the same task, started again, completes. In one round of three the second run is
killed as well.

The embedder is the toy of the tests, and everything is committed as often as possible, so that most
of a task's time is spent around commits. The last line has the number of killed processes.
"""

import argparse
import contextlib
import io
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import faiss  # noqa: F401  Loaded once here, and not in each process.
from PIL import Image

import indexer.ingest.pipeline
import indexer.library
import indexer.search.ranking
from embedder import Content
from embedder.interface import Vectors
from embedder.toy import ToyEmbedder
from indexer import Library, Query, QueryPart, Status
from indexer.admin import main as admin
from indexer.maintenance.backup import back_up, restore, verify
from indexer.maintenance.check import check
from indexer.maintenance.compact import compact
from indexer.maintenance.storage import open_storage

ACTIONS = ("ingest", "remove", "reembed", "compact", "backup")
_SEARCHED = 12
_LONGEST_SECONDS = 120


class Slow(ToyEmbedder):
    """The toy embedder under two names, slower and in small batches."""

    batch_size = 4

    def __init__(self, name: str) -> None:
        super().__init__()
        self.info = replace(self.info, name=name, revision=name)

    def _embed_batch(self, contents: Sequence[Content], role: Any) -> Vectors:
        time.sleep(0.002)
        rows = super()._embed_batch(contents, role)
        return rows if self.info.name == "one" else rows[:, ::-1]


@dataclass
class World:
    """A library, its files, and the state of the run."""

    folder: Path
    rng: random.Random
    number: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)
    late: int = 0

    @property
    def media(self) -> Path:
        """The folder of the files."""
        return self.folder / "media"

    @property
    def library(self) -> Path:
        """The library's folder."""
        return self.folder / "library"

    def files(self) -> list[Path]:
        """List the files that an ingest should index."""
        return sorted(path for path in self.media.rglob("*") if path.is_file())

    def add(self, texts: int, pictures: int) -> None:
        """Write new files with unique contents."""
        for kind in ["text"] * texts + ["picture"] * pictures:
            self.number += 1
            where = self.media / f"folder{self.number % 3}"
            where.mkdir(parents=True, exist_ok=True)
            path = where / f"{kind}{self.number:06}.{'txt' if kind == 'text' else 'png'}"
            self.write(path)

    def write(self, path: Path) -> None:
        """Overwrite a file with a unique word or colour."""
        self.number += 1
        if path.suffix == ".txt":
            path.write_text(f"unique{self.number:06} words about red things\n" * 3)
        else:
            colour = tuple(self.rng.randrange(256) for _ in range(3))
            Image.new("RGB", (64 + self.number % 64, 64), colour).save(path)

    def change(self) -> None:
        """Add, delete, change, move and copy some files."""
        rng = self.rng
        self.add(rng.randrange(2, 7), rng.randrange(1, 4))
        chosen = rng.sample(self.files(), 6)
        chosen[0].unlink()
        chosen[1].unlink()
        self.write(chosen[2])
        chosen[3].rename(chosen[3].with_stem(f"{chosen[3].stem[:8]}{self.number:06}moved"))
        shutil.copy(chosen[4], chosen[4].with_stem(f"{chosen[4].stem[:8]}{self.number:06}copy"))
        while len(self.files()) > 60:
            rng.choice(self.files()).unlink()


def in_process(work: Callable[[], Any]) -> tuple[int, Callable[[], Any]]:
    """Start a process; return its id and a function that waits for its answer.

    The answer is None if the process was killed. The library is only opened in such processes:
    forks of this one, which has nothing open.
    """
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        os.close(reading)
        try:
            answer: Any = ("done", work())
        except BaseException:
            answer = ("failed", traceback.format_exc())
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)

    def wait() -> Any:
        with os.fdopen(reading, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            return None
        return pickle.loads(data)

    return process, wait


def answered(work: Callable[[], Any]) -> Any:
    """Run work in a process and return its answer."""
    _, wait = in_process(work)
    answer = wait()
    if answer is None or answer[0] == "failed":
        raise AssertionError(answer and answer[1])
    return answer[1]


@contextlib.contextmanager
def opened(world: World) -> Any:
    """Open the library with its two models, committing all the time."""
    indexer.library.open_embedder = lambda name, **_options: Slow(name)  # type: ignore[attr-defined]
    indexer.ingest.pipeline.Pipeline.commit_seconds = 0.0
    from indexer.maintenance import compact as compaction

    compaction._MIN_FREE_BYTES = compaction._MIN_FREE_SHARE = -1
    with Library.open(world.library) as library:
        yield library


def task(world: World, action: str, targets: Sequence[str]) -> Callable[[], Any]:
    """Return the work of a process; `targets` are files to remove, a model, or a folder."""

    def ingest() -> None:
        with opened(world) as library:
            report = library.ingest([world.media])
            assert not report.failures, report.failures

    def remove() -> None:
        with opened(world) as library:
            for path in targets:
                items = [
                    one.id for one in library.catalog.items(limit=999) if str(one.path) == path
                ]
                library.remove(items)

    def reembed() -> None:
        with opened(world) as library:
            model = targets[0]
            report = library.reembed(model)
            assert report.switched or library.catalog.model().name == model, report

    def compaction() -> None:
        with opened(world), open_storage(world.library) as place:
            compact(place)

    def backup() -> None:
        target = Path(targets[0])
        if not target.exists():
            with open_storage(world.library, read_only=True) as place:
                assert back_up(place, target).missing == ()

    return dict(zip(ACTIONS, (ingest, remove, reembed, compaction, backup), strict=True))[action]


def state(world: World) -> dict[str, Any]:
    """Return the library's hashes by file, and its model."""

    def read() -> dict[str, Any]:
        with opened(world) as library:
            items = library.catalog.items(status=Status.INDEXED, limit=9_999)
            others = [one for one in library.catalog.items(limit=9_999) if one not in items]
            assert not others, others
            return {
                "files": {str(one.path): one.content_hash for one in items},
                "model": library.catalog.model().name,
            }

    return answered(read)


def examine(world: World) -> list[str]:
    """List what is wrong with the library: by check, by vectors, and by search."""
    chosen = world.rng.randrange(1 << 30)

    def look() -> list[str]:
        problems, output = list[str](), io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            if admin(["check", "--library", str(world.library)]):
                problems.append(f"the check says: {output.getvalue()}")
        with opened(world) as library:
            problems += _vectors(library)
            items = library.catalog.items(status=Status.INDEXED, limit=9_999)
            for item in random.Random(chosen).sample(items, min(_SEARCHED, len(items))):
                problems += _search(library, item)
        return problems

    return answered(look)


def left_over(world: World) -> list[str]:
    """List what a compaction has left over."""
    with open_storage(world.library, read_only=True) as place:
        return [f"{one.count} {one.fault.what}: {one.examples}" for one in check(place).findings]


def _vectors(library: Library) -> list[str]:
    """Check that the vectors find every segment of a file, once."""
    expected: dict[Any, set[int]] = {}
    for item in library.catalog.items(status=Status.INDEXED, limit=9_999):
        for segment in library.catalog.segments(item.id):
            expected.setdefault(segment.kind, set()).add(segment.id)
    problems = []
    for kind, ids in expected.items():
        some = library.catalog.vectors_of([next(iter(ids))])[0]
        found = library.vectors.search(some, 9_999, kind)[1].tolist()
        held = [one for one in found if library.catalog.resolve([one], _ANY)]
        if sorted(held) != sorted(ids):
            problems.append(f"{kind}: the vectors of {sorted(held)}, not of {sorted(ids)}")
    return problems


def _search(library: Library, item: Any) -> list[str]:
    """Check that a search finds the file, and no file twice."""
    if item.path.suffix == ".txt":
        segment = library.catalog.segments(item.id)[0]
        part = QueryPart(Content(text=(segment.text or "").split()[0]))
    else:
        part = QueryPart(segment_id=library.catalog.segments(item.id)[0].id)
    hits = library.search(Query((part,), limit=200))
    found = Counter(path for hit in hits for path in (hit.item.path, *hit.copies))
    twice = [path for path, count in found.items() if count > 1]
    problems = [f"{path} is found {found[path]} times" for path in twice]
    if item.path not in found:
        problems.append(f"{item.path} is not found")
    return problems


def lost(
    action: str, before: dict[str, Any], after: dict[str, Any], targets: Sequence[str]
) -> list[str]:
    """List what a killed task lost that it should not have touched."""
    had, has = before["files"], after["files"]
    if action == "ingest":
        gone = {path for path in had if path not in has and Path(path).exists()}
        return [f"{path} is gone" for path in sorted(gone)]
    if action == "remove":
        wrong = {path: had[path] for path in had.keys() - set(targets)} != {
            path: has[path] for path in has.keys() - set(targets)
        }
        return ["other files than those to remove are gone"] if wrong else []
    if had != has:
        return [f"files have changed: {sorted(had.items() ^ has.items())}"]
    if action != "reembed" and before["model"] != after["model"]:
        return [f"the model is {after['model']}"]
    return []


def complete(
    world: World, action: str, before: dict[str, Any], targets: Sequence[str]
) -> list[str]:
    """Run a task to its end; list what is wrong afterwards."""
    begun = time.monotonic()
    answered(task(world, action, targets))
    world.seconds[action] = time.monotonic() - begun
    after = state(world)
    problems = lost(action, before, after, targets) + examine(world)
    expected = {str(path) for path in world.files()}
    if action == "ingest" and after["files"].keys() != expected:
        problems.append(f"not all files are in: {sorted(after['files'].keys() ^ expected)}")
    if action == "remove" and after["files"].keys() & set(targets):
        problems.append("files are still there")
    if action == "reembed" and after["model"] != targets[0]:
        problems.append(f"the model is {after['model']}")
    if action == "backup":
        problems += _restored(world, Path(targets[0]), before)
    return problems


def _restored(world: World, target: Path, before: dict[str, Any]) -> list[str]:
    def look() -> list[str]:
        verify(target)
        restore(target, world.folder / "restored")
        with open_storage(world.folder / "restored") as place:
            items = place.catalog.items(status=Status.INDEXED, limit=9_999)
            same = {str(one.path): one.content_hash for one in items} == before["files"]
        return [] if same else ["the backup holds other files"]

    problems = answered(look)
    for path in (target, world.folder / "restored"):
        shutil.rmtree(path)
    return problems


def kill(world: World, action: str, targets: Sequence[str]) -> bool:
    """Start a task and kill it after part of its time; return False if it had ended."""
    process, wait = in_process(task(world, action, targets))
    time.sleep(world.rng.uniform(0, world.seconds[action]))
    os.kill(process, signal.SIGKILL)
    answer = wait()
    if answer is not None and answer[0] == "failed":
        raise AssertionError(answer[1])
    world.kills[action] += answer is None
    world.late += answer is not None
    return answer is None


def targets_of(world: World, action: str, before: dict[str, Any]) -> list[str]:
    """Return the files to remove, the model to change to, or the folder to back up to."""
    if action == "remove":
        return world.rng.sample(sorted(before["files"]), 8)
    if action == "reembed":
        return ["two" if before["model"] == "one" else "one"]
    return [str(world.folder / "backup")]


def play(world: World, action: str) -> list[str]:
    """Play one round; list what is wrong."""
    if action == "ingest":
        world.change()
    before = state(world)
    targets = targets_of(world, action, before)
    for _ in range(world.rng.choice((1, 1, 2))):
        kill(world, action, targets)
        problems = lost(action, before, state(world), targets) + examine(world)
        if problems:
            return problems
        if action == "ingest":
            world.change()
    return complete(world, action, before, targets)


def begin(world: World) -> None:
    """Fill a library and measure each task."""
    world.media.mkdir(parents=True)
    world.add(texts=30, pictures=15)

    def first() -> None:
        indexer.library.open_embedder = lambda name, **_options: Slow(name)  # type: ignore[attr-defined]
        with Library.open(world.library, model="one") as library:
            library.ingest([world.media])

    answered(first)
    for action in ACTIONS:
        before = state(world)
        problems = complete(world, action, before, targets_of(world, action, before))
        assert not problems, problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the rounds; return 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--times", type=int, default=200, help="how many processes to kill (200)")
    parser.add_argument("--seed", type=int, default=1, help="for the same files and moments (1)")
    given = parser.parse_args(arguments)
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="rzen-kill-") as folder:
        world = World(Path(folder), random.Random(given.seed))
        begin(world)
        rounds = 0
        while world.kills.total() < given.times:
            action = ACTIONS[rounds % len(ACTIONS)]
            rounds += 1
            if problems := play(world, action):
                print(f"seed {given.seed}, round {rounds}, {action}:", *problems, sep="\n  ")
                return 1
        for action in ("ingest", "compact"):
            before = state(world)
            if problems := complete(world, action, before, targets_of(world, action, before)):
                print(f"seed {given.seed}, at the end, {action}:", *problems, sep="\n  ")
                return 1
        if problems := answered(lambda: left_over(world)):
            print(f"seed {given.seed}, at the end there is left:", *problems, sep="\n  ")
            return 1
        print(
            f"{rounds} rounds in {time.monotonic() - started_at:.0f} s; {world.late} came too late"
        )
        counts = ", ".join(f"{world.kills[action]} {action}" for action in ACTIONS)
        print(f"{world.kills.total()} killed ({counts}): nothing was lost")
    return 0


_ANY = indexer.Filters()


if __name__ == "__main__":
    sys.exit(main())
