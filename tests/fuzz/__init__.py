"""Fuzz targets for our own parsers, each with the properties that always hold.

A target turns arbitrary bytes into input of a parser and asserts what must hold of the result: a
valid answer or a documented refusal, and never another error. The test suite runs every target over
its seeds and a fixed set of mutations; `python -m tests.fuzz` lets atheris look for more, guided by
coverage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module

from .mutation import altered, mutations


@dataclass(frozen=True)
class Target:
    """A parser under test.

    Attributes:
        name: Its name on the command line.
        module: Has the function `name`, and the seeds as `NAME` or as the function `name_seeds`;
            imported when it is needed.
    """

    name: str
    module: str

    @cached_property
    def check(self) -> Callable[[bytes], None]:
        """Return the function that raises if a property does not hold."""
        return getattr(import_module(f".{self.module}", __package__), self.name)

    @cached_property
    def seeds(self) -> list[bytes]:
        """Return the inputs to start from, including those that once broke something."""
        module = import_module(f".{self.module}", __package__)
        made = getattr(module, f"{self.name}_seeds", None)
        return [
            one.encode("utf-8", "surrogateescape") if isinstance(one, str) else one
            for one in (made() if made else getattr(module, self.name.upper()))
        ]

    def inputs(self, count: int) -> list[bytes]:
        """Return the seeds, variants of the first if it is JSON, and some mutations."""
        changed = [one.encode() for one in altered(self.seeds[0])]
        return [*self.seeds, *changed, *mutations(self.name, self.seeds, count)]


_IN = {
    "asked": ("words", "dates", "flags", "matches", "names"),
    "page": ("forms", "calls", "payloads", "routes", "file_names", "data_addresses", "ids"),
    "media": ("drafts", "kinds", "texts", "details"),
    "documents": ("documents",),
    "saved": ("states", "backups", "settings", "checkpoints", "weights"),
    "learned": ("rows", "runs", "sets"),
}
TARGETS = {name: Target(name, module) for module, names in _IN.items() for name in names}
