"""One query or candidate as a file states it; its pictures are decoded when they are needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.content import Content, Modality
from embedder.media import Limits
from trainer.data.examples import Side

KEYS = frozenset(
    {"id", "text", "image", "images", "video", "pdf", "page", "modality", "instruction"}
)


class BadEntry(Exception):
    """What a file states cannot be understood; the message is a few words without the place."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What to embed, by reference.

    Attributes:
        id: Unique among the queries, or among the candidates, of a set.
        side: Words, pictures, a video or a page, by reference.
        instruction: None for the model's own, the empty string for none.
    """

    id: str
    side: Side
    instruction: str | None = None

    @classmethod
    def of(cls, stated: object, root: Path, default_id: str | None = None) -> "Entry":
        """What a line of JSON states.

        Args:
            stated: An object with some of `KEYS`.
            root: Folder that relative paths start from.
            default_id: Where it states no id.

        Raises:
            BadEntry: something is missing, unknown or of the wrong type.
        """
        if not isinstance(stated, dict):
            raise BadEntry("it is not an object")
        if unknown := sorted(set(stated) - KEYS):
            raise BadEntry(f"unknown key {unknown[0]!r}")
        name = stated.get("id", default_id)
        if name is None or isinstance(name, bool) or not isinstance(name, str | int):
            raise BadEntry("it has no id")
        images = stated.get("images", [])
        if not isinstance(images, list):
            raise BadEntry("images is not a list")
        if "image" in stated:
            images = [stated["image"], *images]
        paths = [_text({"image": one}, "image") for one in images]
        video, pdf = _text(stated, "video"), _text(stated, "pdf")
        page = stated.get("page", 1)
        if not isinstance(page, int) or isinstance(page, bool) or page < 1:
            raise BadEntry("page is not a number from 1 on")
        try:
            side = Side(
                text=_text(stated, "text"),
                images=tuple(root / one for one in paths if one),
                video=root / video if video else None,
                pdf=root / pdf if pdf else None,
                page=page,
                modality=_modality(stated),
            )
        except ValueError as error:
            raise BadEntry(str(error)) from error
        return cls(str(name), side, _text(stated, "instruction"))

    @property
    def kind(self) -> Modality:
        """Its modality, without decoding anything."""
        side = self.side
        if side.pdf is not None:
            return Modality.IMAGE if (side.text or "").strip() else Modality.PAGE
        if side.modality is not None:
            return side.modality
        if side.video is not None or len(side.images) > 1:
            return Modality.VIDEO
        return Modality.IMAGE if side.images else Modality.TEXT

    def content(self, limits: Limits) -> Content:
        """Decodes it.

        Raises:
            MediaError: a file is missing, damaged or beyond the limits.
            ValueError: there is nothing in it to embed.
        """
        return self.side.content(limits, self.instruction)


def _text(stated: Mapping[str, Any], key: str) -> str | None:
    value = stated.get(key)
    if value is not None and not isinstance(value, str):
        raise BadEntry(f"{key} is not a text")
    return value


def _modality(stated: Mapping[str, Any]) -> Modality | None:
    value = stated.get("modality")
    if value is None:
        return None
    try:
        return Modality(value)
    except ValueError as error:
        raise BadEntry(f"modality is none of {', '.join(Modality)}") from error
