"""The names of models, as commands, libraries and the page write them."""

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What opens a model: "family[:argument]", for instance "mini" or "rzen:/models/v1".

    Attributes:
        family: Selects the backend; models of two families never share vectors.
        argument: What the family opens, a folder or a name on the hub; empty for its default.
    """

    family: str
    argument: str = ""

    @classmethod
    def parse(cls, spec: str) -> Self:
        """Split a specification at its first colon; every string is one."""
        family, _, argument = spec.partition(":")
        return cls(family, argument)

    def __str__(self) -> str:
        return f"{self.family}:{self.argument}" if self.argument else self.family

    @property
    def short(self) -> str:
        """The specification without parent folders: rzen:/a/b/v1 is rzen:v1."""
        parts = [part for part in re.split(r"[/\\]+", self.argument) if part]
        return f"{self.family}:{parts[-1]}" if parts else str(self)
