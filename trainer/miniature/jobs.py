"""Commands that depend on each other, several at a time; what is done is not done again."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

_SHOWN = 12  # last lines of a command that failed


class JobFailed(Exception):
    """A command failed; the message has its last lines."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command.

    Attributes:
        name: For messages, and of its log file.
        arguments: Of `python`, made when it starts: `--resume` depends on what there is then.
        done: A file or folder that is there when it is done.
        needs: Names of jobs that must be done before.
    """

    name: str
    arguments: Callable[[], Sequence[str]]
    done: Path
    needs: tuple[str, ...] = ()


def run(jobs: Sequence[Job], logs: Path, workers: int) -> None:
    """Runs what is not done, in order as far as dependencies and workers allow.

    Args:
        jobs: In an order in which each comes after those it needs.
        logs: A folder for what the commands print.
        workers: How many run at a time; they share the CPUs evenly.

    Raises:
        JobFailed: one failed; those that were running are stopped.
    """
    logs.mkdir(parents=True, exist_ok=True)
    done = {job.name for job in jobs if job.done.exists()}
    waiting = [job for job in jobs if job.name not in done]
    started, count = monotonic(), len(waiting)
    _say(f"{len(done)} of {len(jobs)} steps are done")
    running: dict[Future[float], Job] = {}
    stopping = threading.Event()
    with ThreadPoolExecutor(workers) as pool:
        try:
            while waiting or running:
                for job in [one for one in waiting if done.issuperset(one.needs)]:
                    if len(running) == workers:
                        break
                    waiting.remove(job)
                    running[pool.submit(_ran, job, logs, workers, stopping)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job, seconds = running.pop(future), future.result()
                    done.add(job.name)
                    finished = count - len(waiting) - len(running)
                    left = (monotonic() - started) / finished * (count - finished)
                    _say(
                        f"{len(done)} of {len(jobs)}: {job.name} took {seconds / 60:.1f} minutes; "
                        f"about {left / 60:.0f} minutes left"
                    )
        finally:
            stopping.set()


def _ran(job: Job, logs: Path, workers: int, stopping: threading.Event) -> float:
    """Runs one; how many seconds it took."""
    started = monotonic()
    path = logs / f"{job.name}.txt"
    threads = str(max(1, (os.cpu_count() or 1) // workers))
    with path.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, *job.arguments()],
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "OMP_NUM_THREADS": threads},
        )
        while process.poll() is None:
            if stopping.wait(0.2):
                process.terminate()
                process.wait()
    if process.returncode and not stopping.is_set():
        last = path.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN:]
        raise JobFailed("\n".join([f"{job.name} failed, see {path}:", *last]))
    return monotonic() - started


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
