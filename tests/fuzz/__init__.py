"""Our own parsing under bytes that nobody chose: targets, each with properties that always hold.

A target takes any bytes, makes of them what its parser is given, and asserts what must hold of the
answer: an answer or a refusal of the kind that is documented, and never anything else. The suite
runs every target over its seeds and some mutations that are always the same;
`python -m tests.fuzz` lets atheris look for more, guided by what the code covers.
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
        name: What it is called on the command line.
        module: Where its function `name` is and its seeds `NAME`, or the function `name_seeds` that
            makes them; imported when it is needed.
    """

    name: str
    module: str

    @cached_property
    def check(self) -> Callable[[bytes], None]:
        """Raises if a property does not hold."""
        return getattr(import_module(f".{self.module}", __package__), self.name)

    @cached_property
    def seeds(self) -> list[bytes]:
        """Inputs to start from, those that once broke something among them."""
        module = import_module(f".{self.module}", __package__)
        made = getattr(module, f"{self.name}_seeds", None)
        return [
            one.encode("utf-8", "surrogateescape") if isinstance(one, str) else one
            for one in (made() if made else getattr(module, self.name.upper()))
        ]

    def inputs(self, count: int) -> list[bytes]:
        """The seeds, the first with each of its values changed if it is JSON, and mutations."""
        changed = [one.encode() for one in altered(self.seeds[0])]
        return [*self.seeds, *changed, *mutations(self.name, self.seeds, count)]


_IN = {
    "asked": ("words", "dates", "flags", "matches", "names"),
    "page": ("forms", "calls", "payloads", "routes", "file_names", "data_addresses", "ids"),
    "media": ("drafts", "kinds", "texts"),
    "saved": ("states", "backups", "settings", "checkpoints", "weights"),
    "learned": ("rows", "runs", "sets"),
}
TARGETS = {name: Target(name, module) for module, names in _IN.items() for name in names}
