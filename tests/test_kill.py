"""The short form of `benchmarks/kill.py`: programs killed at random lose nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="it starts copies of a process"),
    pytest.mark.skipif(not (ROOT / "benchmarks").is_dir(), reason="needs a checkout"),
]


def test_kills_lose_nothing():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kill", "--times", "8", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"^(\d+) killed .*: nothing was lost$", done.stdout, re.M)
    assert found, done.stdout
    assert int(found[1]) >= 8


LOSSES = {
    "a vector": ("DELETE FROM vectors WHERE segment_id = 1", "segments without a vector"),
    "a file": ("DELETE FROM items WHERE id = 1", " is gone"),
    "words": (
        "INSERT INTO segment_texts (segment_texts, rowid, text) "
        "SELECT 'delete', id, text FROM segments WHERE text IS NOT NULL",
        "full-text index",
    ),
}


@pytest.mark.parametrize("loss", LOSSES)
def test_kill_script_notices_a_loss(tmp_path, loss):
    statement, message = LOSSES[loss]
    code = f"""
import random, sqlite3, sys
from pathlib import Path
import indexer.library
from benchmarks.kill import Slow, World, examine, lost, state
from indexer import Library
world = World(Path(sys.argv[1]), random.Random(1))
world.media.mkdir()
world.add(texts=3, pictures=1)
indexer.library.open_embedder = lambda name, **_options: Slow(name)
with Library.open(world.library, model="one") as library:
    library.ingest([world.media])
before = state(world)
assert not examine(world)
connection = sqlite3.connect(world.library / "library.sqlite3")
connection.execute({statement!r})
connection.commit()
connection.close()
print(*examine(world), *lost("ingest", before, state(world), []))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert message in done.stdout
