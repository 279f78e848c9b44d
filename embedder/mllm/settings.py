"""The settings of a checkpoint: prompts, positions and limits, in a file beside its weights.

The file is named after the family. The defaults here are those of RzenEmbed's released inference
script (arXiv 2510.27350 and the script that its authors published).
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
        system: The system prompt; in a family whose instruction is the system prompt, the one for
            contents without an instruction.
        text_prompt: Follows the words of a content without pictures (the representation prompt).
        visual_prompt: Follows every other content.
        query_instructions: By (query modality, document modality).
        document_instructions: By modality.
        positions: How image tokens are numbered.
        pooling: How states become the embedding.
        image_tokens: Minimum and maximum tokens of a picture or page.
        frame_tokens: The same for a frame of a video, or for a pair of frames read together.
        video_tokens: Most tokens of a whole video; None for no limit but these.
        frames: Most frames of a video; of more, evenly spaced ones are used.
        max_tokens: Longest sequence. Words beyond it are cut; pictures are scaled down.
        page_text: Whether the words of a document page are embedded beside its picture.
        dim: Length of the vectors, for a model trained so that their beginning suffices (Matryoshka
            representation learning, arXiv 2205.13147); None for that of the hidden states.
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
    video_tokens: int | None = None
    frames: int = 8
    max_tokens: int = 2000
    page_text: bool = False
    dim: int | None = None

    @classmethod
    def of(cls, directory: Path, file: str = SETTINGS_FILE, default: Self | None = None) -> Self:
        """Read the settings of a checkpoint.

        Args:
            directory: Its folder.
            file: The file's name.
            default: What the file does not state; by default, the released script's.

        Raises:
            EmbedderUnavailable: the file cannot be read; the message lists all problems.
        """
        path = directory / file
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return default or cls()
        except (OSError, ValueError, RecursionError) as error:
            raise EmbedderUnavailable(f"{path} cannot be read: {error}") from error
        problems = cls.problems(stated)
        if problems:
            raise EmbedderUnavailable(f"{path} is not valid: {'; '.join(problems)}")
        return cls.of_values(stated, default)

    @staticmethod
    def problems(stated: object) -> list[str]:
        """List what is wrong with the values of a file, each in a few words."""
        return _problems(stated)

    @classmethod
    def of_values(cls, stated: Mapping[str, Any], default: Self | None = None) -> Self:
        """Make settings from the values of a file without `problems`; the rest is the default."""
        default = default or cls()
        return replace(default, **_values(stated, default))

    def save(self, directory: Path, file: str = SETTINGS_FILE) -> None:
        """Write the settings beside a checkpoint's weights."""
        (directory / file).write_text(self.stated(), encoding="utf-8")

    def stated(self) -> str:
        """Return the settings as JSON; the same for equal settings, so that it can be hashed.

        What is None is left out, so that a key that is added changes no fingerprint.
        """
        values = {one.name: getattr(self, one.name) for one in fields(self)}
        values = {name: value for name, value in values.items() if value is not None} | {
            "query_instructions": {f"{q} {d}": t for (q, d), t in self.query_instructions.items()},
            "document_instructions": {m.value: t for m, t in self.document_instructions.items()},
        }
        return json.dumps({"format": _FORMAT} | values, indent=1, sort_keys=True) + "\n"

    def instructed(self, instructions: Mapping[Modality, str]) -> Self:
        """Return the settings with other instructions for documents of some modalities."""
        return replace(self, document_instructions={**self.document_instructions, **instructions})


def _values(stated: Mapping[str, Any], default: Settings) -> dict[str, Any]:
    """Convert the file's values to those of the dataclass; pairs not named keep their default."""
    values = {name: value for name, value in stated.items() if name != "format"}
    for name in ("image_tokens", "frame_tokens"):
        if name in values:
            values[name] = tuple(values[name])
    if "query_instructions" in values:
        queries = {_PAIRS[key]: text for key, text in values["query_instructions"].items()}
        values["query_instructions"] = {**default.query_instructions, **queries}
    if "document_instructions" in values:
        documents = {Modality(key): text for key, text in values["document_instructions"].items()}
        values["document_instructions"] = {**default.document_instructions, **documents}
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
    for name, least in (
        *(("frames", 1), ("max_tokens", 64)),
        *(("video_tokens", 1), ("dim", 1)),
    ):
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
