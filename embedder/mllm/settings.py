"""The settings of a checkpoint: prompts, positions and limits, in `rzen.json` beside its weights.

The defaults are those of the released inference script (arXiv 2510.27350 and the script that its
authors published).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from embedder.content import Modality
from embedder.interface import EmbedderUnavailable

SETTINGS_FILE = "rzen.json"
_FORMAT = 1

Positions = Literal["sequential", "mrope"]
"""How image tokens are numbered: one after the other, or by row and column (M-RoPE)."""

Pooling = Literal["last", "mean"]
"""The embedding is the state of the last token, or the mean of all."""

Pair = tuple[Modality, Modality]

_TEXT, _IMAGE, _VIDEO, _PAGE = Modality.TEXT, Modality.IMAGE, Modality.VIDEO, Modality.PAGE

DOCUMENT_INSTRUCTIONS: Mapping[Modality, str] = MappingProxyType(
    {
        _TEXT: "",
        _IMAGE: "Represent the given image.",
        _VIDEO: "Understand the content of the provided video.",
        _PAGE: "Understand the content of the provided document image.",
    }
)
"""Instructions for documents, as published for the released weights."""

QUERY_INSTRUCTIONS: Mapping[Pair, str] = MappingProxyType(
    {
        (_TEXT, _TEXT): "",
        (_TEXT, _IMAGE): "Find me an everyday image that matches the given caption: ",
        (_TEXT, _VIDEO): "Find the video snippet that corresponds to the given caption: ",
        (_TEXT, _PAGE): "Find a document image that matches the given query: ",
        (_IMAGE, _TEXT): "Find an image caption describing the given everyday image.",
    }
    # Nothing is published for pictures that search pictures: with the instruction of a document, a
    # picture finds its own copies with a cosine of 1.
    | {
        (query, document): DOCUMENT_INSTRUCTIONS[query]
        for query in (_IMAGE, _VIDEO, _PAGE)
        for document in Modality
        if (query, document) != (_IMAGE, _TEXT)
    }
)
"""Instructions for queries, by (query modality, document modality)."""

_PAIRS: Mapping[str, Pair] = MappingProxyType(
    {f"{query} {document}": (query, document) for query in Modality for document in Modality}
)
"""Keys in the file: "text image" is the instruction of a text that searches images."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about a checkpoint that changes vectors, besides its weights.

    Attributes:
        system: The system prompt.
        text_prompt: Follows the words of a content without pictures (the representation prompt).
        visual_prompt: Follows every other content.
        query_instructions: By (query modality, document modality).
        document_instructions: By modality.
        positions: How image tokens are numbered.
        pooling: How states become the embedding.
        image_tokens: Minimum and maximum tokens of a picture or page, a token being 28 × 28 pixels.
        frame_tokens: The same for a frame of a video.
        frames: Most frames of a video; of more, evenly spaced ones are used.
        max_tokens: Longest sequence. Words beyond it are cut; pictures are scaled down.
        page_text: Whether the words of a document page are embedded beside its picture.
    """

    system: str = "You are a helpful assistant."
    text_prompt: str = ""
    visual_prompt: str = ""
    query_instructions: Mapping[Pair, str] = field(default_factory=lambda: QUERY_INSTRUCTIONS)
    document_instructions: Mapping[Modality, str] = field(
        default_factory=lambda: DOCUMENT_INSTRUCTIONS
    )
    positions: Positions = "sequential"
    pooling: Pooling = "last"
    image_tokens: tuple[int, int] = (256, 1280)
    frame_tokens: tuple[int, int] = (160, 180)
    frames: int = 8
    max_tokens: int = 2000
    page_text: bool = False

    @classmethod
    def of(cls, directory: Path) -> Self:
        """Read the settings of a checkpoint; the released script's if it has no file.

        Raises:
            EmbedderUnavailable: the file cannot be read; the message lists all problems.
        """
        path = directory / SETTINGS_FILE
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, RecursionError) as error:
            raise EmbedderUnavailable(f"{path} cannot be read: {error}") from error
        problems = cls.problems(stated)
        if problems:
            raise EmbedderUnavailable(f"{path} is not valid: {'; '.join(problems)}")
        return cls.of_values(stated)

    @staticmethod
    def problems(stated: object) -> list[str]:
        """List what is wrong with the values of a file, each in a few words."""
        return _problems(stated)

    @classmethod
    def of_values(cls, stated: Mapping[str, Any]) -> Self:
        """Make settings from the values of a file without `problems`; the rest is as released."""
        return cls(**_values(stated))

    def save(self, directory: Path) -> None:
        """Write the settings beside a checkpoint's weights."""
        (directory / SETTINGS_FILE).write_text(self.stated(), encoding="utf-8")

    def stated(self) -> str:
        """Return the settings as JSON; the same for equal settings, so that it can be hashed."""
        values = {one.name: getattr(self, one.name) for one in fields(self)} | {
            "query_instructions": {f"{q} {d}": t for (q, d), t in self.query_instructions.items()},
            "document_instructions": {m.value: t for m, t in self.document_instructions.items()},
        }
        return json.dumps({"format": _FORMAT} | values, indent=1, sort_keys=True) + "\n"

    def instructed(self, instructions: Mapping[Modality, str]) -> Self:
        """Return the settings with other instructions for documents of some modalities."""
        return replace(self, document_instructions={**self.document_instructions, **instructions})


def _values(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the file's values to those of the dataclass; pairs not named keep their default."""
    values = {name: value for name, value in stated.items() if name != "format"}
    for name in ("image_tokens", "frame_tokens"):
        if name in values:
            values[name] = tuple(values[name])
    if "query_instructions" in values:
        queries = {_PAIRS[key]: text for key, text in values["query_instructions"].items()}
        values["query_instructions"] = {**QUERY_INSTRUCTIONS, **queries}
    if "document_instructions" in values:
        documents = {Modality(key): text for key, text in values["document_instructions"].items()}
        values["document_instructions"] = {**DOCUMENT_INSTRUCTIONS, **documents}
    return values


def _problems(stated: object) -> list[str]:
    """List what is wrong with a file's values, each in a few words."""
    if not isinstance(stated, dict):
        return ["it is not a JSON object"]
    found = []
    if stated.get("format", _FORMAT) != _FORMAT:
        found.append(f"its format is {stated['format']!r}, this version knows {_FORMAT}")
    known = {one.name for one in fields(Settings)} | {"format"}
    found += [f"unknown key {name!r}" for name in stated if name not in known]
    for name in ("system", "text_prompt", "visual_prompt"):
        if not isinstance(stated.get(name, ""), str):
            found.append(f"{name} must be a text")
    for name, choices in (("positions", get_args(Positions)), ("pooling", get_args(Pooling))):
        if stated.get(name, choices[0]) not in choices:
            found.append(f"{name} must be one of {', '.join(choices)}")
    for name in ("image_tokens", "frame_tokens"):
        if not _is_range(stated.get(name, (1, 1))):
            found.append(f"{name} must be the minimum and the maximum, two integers from 1 on")
    for name, least in (("frames", 1), ("max_tokens", 64)):
        value = stated.get(name, least)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            found.append(f"{name} must be an integer from {least} on")
    if not isinstance(stated.get("page_text", False), bool):
        found.append("page_text must be true or false")
    return found + _instruction_problems(stated)


def _instruction_problems(stated: Mapping[str, Any]) -> list[str]:
    found = []
    for name, keys, what in (
        ("query_instructions", set(_PAIRS), "two modalities with a space between"),
        ("document_instructions", set(Modality), "a modality"),
    ):
        table = stated.get(name, {})
        if not isinstance(table, dict) or not all(isinstance(v, str) for v in table.values()):
            found.append(f"{name} must be an object of texts")
            continue
        found += [
            f"{name} has the key {key!r}, which is not {what}" for key in table if key not in keys
        ]
    return found


def _is_range(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(one, int) and not isinstance(one, bool) for one in value)
        and 1 <= value[0] <= value[1]
    )
