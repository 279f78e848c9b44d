"""What can be embedded: `Content`, its `Modality`, and the `Role` it plays."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Literal, get_args

from PIL import Image

Role = Literal["query", "document"]
"""A query searches documents; some models prepend different instructions to the two."""

ROLES: tuple[Role, ...] = get_args(Role)


class Modality(StrEnum):
    """What a content is, as models distinguish it."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    PAGE = "page"


@dataclass(frozen=True, eq=False, slots=True, init=False)
class Content:
    """Something to embed: a text, a picture, a clip, a document page, or a mix of them.

    Attributes:
        text: The words, or None. With frames, the words belong to the pictures.
        frames: RGB pictures: one for an image or a page, several in order for a video.
        modality: Derived where it can be: no frames is TEXT, one is IMAGE, several are VIDEO.
            A document page has to be marked as PAGE.
        instruction: The instruction for the model. None takes the embedder's default for the role
            and the modality, the empty string gives none.
        times: When each frame is shown, in seconds from the start of the clip; empty if unknown.

    Raises:
        ValueError: if there is neither text nor a frame, if a frame is not an RGB picture with
            at least one pixel, if the modality contradicts the frames, or if there are times, but
            not one for each frame.
    """

    text: str | None
    frames: tuple[Image.Image, ...]
    modality: Modality
    instruction: str | None
    times: tuple[float, ...]

    def __init__(
        self,
        text: str | None = None,
        frames: Iterable[Image.Image] = (),
        modality: Modality | str | None = None,
        instruction: str | None = None,
        times: Iterable[float] = (),
    ) -> None:
        frames, times = tuple(frames), tuple(times)
        for frame in frames:
            if not isinstance(frame, Image.Image):
                raise ValueError(f"a frame must be a PIL image, not {type(frame).__name__}")
            if frame.mode != "RGB" or 0 in frame.size:
                raise ValueError(
                    f"a frame must be an RGB picture of at least one pixel, "
                    f"not {frame.mode} {frame.width}×{frame.height}"
                )
        if text is not None and not text.strip():
            text = None
        if text is None and not frames:
            raise ValueError("a content needs a text that is not blank, or at least one frame")
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "modality", _checked_modality(modality, len(frames)))
        object.__setattr__(self, "instruction", instruction)
        if times and (len(times) != len(frames) or not all(0 <= time < inf for time in times)):
            raise ValueError("times must be one number from 0 on for each frame")
        object.__setattr__(self, "times", times)

    def __repr__(self) -> str:
        """Describe the content in a line for logs, without the pictures."""
        return f"Content({self.modality}, text={self.text!r:.60}, frames={len(self.frames)})"


def _checked_modality(modality: Modality | str | None, frames: int) -> Modality:
    if modality is None:
        if frames == 0:
            return Modality.TEXT
        return Modality.IMAGE if frames == 1 else Modality.VIDEO
    modality = Modality(modality)
    fits = {
        Modality.TEXT: frames == 0,
        Modality.IMAGE: frames == 1,
        Modality.VIDEO: frames >= 1,
        Modality.PAGE: True,
    }
    if not fits[modality]:
        raise ValueError(f"a content of modality {modality} cannot have {frames} frames")
    return modality
