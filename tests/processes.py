"""Two processes that train together: forks of one that has imported PyTorch, which takes longest.

Run as a program, this file is the one that forks.
"""

import importlib
import os
import runpy
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_two(*arguments: object, imports: str = "torch._dynamo") -> str:
    """Run `python ARGUMENTS…` as two processes of one group; return what they wrote to stderr.

    Args:
        arguments: A script, or -m and a module, and its arguments.
        imports: A module to import before forking; PyTorch imports the default for any optimizer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # The variables that `accelerate launch` and `torchrun` set.
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": "2",
    }
    command = [sys.executable, __file__, imports, *map(str, arguments)]
    done = subprocess.run(
        command, cwd=ROOT, env=shared, stderr=subprocess.PIPE, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def _run(rank: int, *arguments: str) -> None:
    """Do what `python ARGUMENTS…` does, as one of the processes."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
    sys.argv = [one for one in arguments if one != "-m"]
    if "-m" in arguments:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    from torch.multiprocessing import start_processes

    importlib.import_module(sys.argv[1])
    start_processes(_run, sys.argv[2:], nprocs=2, start_method="fork")
