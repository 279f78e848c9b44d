"""Rows that cannot be used: each is named, all are counted, and too many stop the run."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from embedder.media import Limits, MediaError
from trainer.data.examples import Decoded, Example, Origin

_log = logging.getLogger(__name__)
_SHOWN = 3
_KEPT = 1000
_LOGGED = 20

Row = TypeVar("Row")


class BrokenRow(ValueError):
    """A row cannot be used; the message says why, in words for the person who owns the data."""


class Unreadable(Exception):
    """A whole file of rows cannot be read; the message names it and says why."""


class TooManyBroken(Exception):
    """More rows are broken than the limit allows: it is likely the format, not the rows."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """A row that was left out, and why."""

    origin: Origin
    reason: str

    def __str__(self) -> str:
        return f"{self.origin}: {self.reason}"


class Ledger:
    """Counts the rows that were used and those that were skipped. Thread-safe.

    Guarantees: the run goes on after a broken row; once `least` rows were seen it stops as soon as
    the share of broken ones is above `limit`. Reading and decoding see the same rows, so each
    takes a ledger of its own.

    Args:
        limit: Largest share of broken rows, from 0 to 1.
        least: Rows that must have been seen before the share is judged.

    Attributes:
        used: Rows that could be used.
        broken: Rows that could not.
        skipped: The first thousand of these.
    """

    def __init__(self, limit: float = 0.05, least: int = 100) -> None:
        if not 0 <= limit <= 1:
            raise ValueError(f"a share is between 0 and 1, not {limit}")
        self.limit = limit
        self.least = least
        self.used = 0
        self.broken = 0
        self.skipped: list[Skipped] = []
        self._lock = threading.Lock()

    def use(self) -> None:
        """Counts a row that could be used.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        with self._lock:
            self.used += 1
            self._check()

    def skip(self, origin: Origin, reason: str) -> None:
        """Notes a row that could not.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        with self._lock:
            self.broken += 1
            note = Skipped(origin, reason)
            if len(self.skipped) < _KEPT:
                self.skipped.append(note)
            # Broken rows come by the thousand; the first say what is wrong.
            _log.log(
                logging.WARNING if self.broken <= _LOGGED else logging.DEBUG, "skipped %s", note
            )
            self._check()

    def usable(
        self,
        path: Path,
        rows: Iterable[tuple[int, Row]],
        parse: Callable[[Row, Origin], Iterable[Example]],
    ) -> Iterator[Example]:
        """The examples of the rows that `parse` takes.

        Args:
            path: The file that the rows are from.
            rows: Each with its number, from 1.
            parse: Makes the examples of a row; raises `BrokenRow` where it cannot.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        for line, row in rows:
            origin = Origin(path, line)
            try:
                examples = list(parse(row, origin))
            except BrokenRow as error:
                self.skip(origin, str(error))
            else:
                self.use()
                yield from examples

    def decoded(
        self, examples: Iterable[Example], limits: Limits | None = None
    ) -> Iterator[Decoded]:
        """The examples whose media can be decoded, in order; the others are skipped.

        Raises:
            TooManyBroken: the share of broken rows is above the limit.
        """
        for example in examples:
            try:
                contents = example.decoded(limits)
            except MediaError as error:
                self.skip(example.origin or Origin(Path(example.dataset), 0), str(error))
            else:
                self.use()
                yield contents

    def _check(self) -> None:
        seen = self.used + self.broken
        if seen < self.least or self.broken <= self.limit * seen:
            return
        first = "; ".join(str(note) for note in self.skipped[:_SHOWN])
        raise TooManyBroken(
            f"{self.broken:,} of the first {seen:,} rows cannot be used, more than the limit of "
            f"{self.limit:.3g} of them. Mend the data or raise the limit. The first: {first}"
        )
