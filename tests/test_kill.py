"""The short form of `benchmarks/kill.py`: programs killed at random lose nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [
    pytest.mark.slow,
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


@pytest.fixture(scope="module")
def noticed(tmp_path_factory):
    """What the script says of each loss; one process damages copies of a library."""
    code = f"""
import json, random, shutil, sqlite3, sys
from pathlib import Path
import indexer.library
from benchmarks.kill import Slow, World, examine, lost, state
from indexer import Library
whole = World(Path(sys.argv[1]), random.Random(1))
whole.media.mkdir()
whole.add(texts=3, pictures=1)
indexer.library.open_embedder = lambda name, **_options: Slow(name)
with Library.open(whole.library, model="one") as library:
    library.ingest([whole.media])
before = state(whole)
assert not examine(whole)
said = {{}}
for loss, (statement, _) in {LOSSES!r}.items():
    world = World(whole.folder / loss, random.Random(1))
    shutil.copytree(whole.library, world.library)
    connection = sqlite3.connect(world.library / "library.sqlite3")
    connection.execute(statement)
    connection.commit()
    connection.close()
    said[loss] = [*examine(world), *lost("ingest", before, state(world), [])]
print(json.dumps(said))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path_factory.mktemp("losses")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("loss", LOSSES)
def test_kill_script_notices_a_loss(noticed, loss):
    _, message = LOSSES[loss]
    assert message in "\n".join(noticed[loss])
