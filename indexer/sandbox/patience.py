"""How long a decoding process is waited for."""

from time import monotonic

from embedder.media.kinds import Limits
from indexer.sandbox import wire
from indexer.sandbox.process import Process, Silent

# A gigabyte may take almost three hours, and each draft adds two seconds for what a small file
# can draw at length: 5,000 pages may take as long again.
_BYTES_PER_SECOND = 100_000
_SECONDS_PER_DRAFT = 2.0


class Patience:
    """How long a file may take; only the time counts in which its answers are waited for.

    Args:
        limits: Give the longest silence, and the time for a file of no size.
        size: Bytes of a file that is read from beginning to end.
    """

    def __init__(self, limits: Limits, size: int = 0) -> None:
        self._limits = limits
        self._left = limits.file_seconds + size / _BYTES_PER_SECOND
        self._granted = self._left

    def receive(self, process: Process) -> wire.Message:
        """The next answer that is more than a sign of life.

        Raises:
            Silent: if it does not come in time; the message is for the file's owner.
        """
        while True:
            started = monotonic()
            silence = self._limits.silence_seconds
            try:
                answer = process.receive(self._limits, min(silence, self._left))
            except Silent as error:
                if silence < self._left:
                    raise Silent(
                        f"decoding got no further for {silence:g} seconds and was stopped"
                    ) from error
                raise Silent(
                    f"decoding took longer than {self._granted:.0f} seconds and was stopped"
                ) from error
            self._left -= monotonic() - started
            if "alive" not in answer.body:
                self._left += _SECONDS_PER_DRAFT
                self._granted += _SECONDS_PER_DRAFT
                return answer
