"""The input template: a content becomes a sequence of tokens, with pad tokens for pictures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.content import Content, Modality, Role
from embedder.interface import EmbedderUnavailable
from embedder.mllm.families import RZEN, Family, Special
from embedder.mllm.pictures import Picture, Plan, Unfit, planned
from embedder.mllm.settings import Positions, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int64]

_MIN_TEXT_TOKENS = 256  # kept of a text that competes with pictures
_MIN_PICTURE_TOKENS = 16
_MAX_TOKEN_CHARACTERS = 128
_ASSUMED_FRAME_RATE = 2.0  # a second, of a video whose frames have no times: as Qwen's scripts do

_Group: TypeAlias = tuple[tuple[Image.Image, ...], float | None]
"""Frames that are read together, and their time."""


@dataclass(frozen=True, eq=False, slots=True)
class TokenSequence:
    """The input of the model for one content.

    Attributes:
        ids: Int64 (length,); each token of a picture is an `<|image_pad|>`.
        pictures: The pictures, in order.
        starts: Where each picture's tokens begin.
        reduced: What was cut or scaled down to fit, for the log; empty if nothing.
    """

    ids: Ids
    pictures: tuple[Picture, ...]
    starts: tuple[int, ...]
    reduced: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, kind: Positions) -> Ids:
        """Return positions on the three axes of M-RoPE (time, row, column), int64 (3, length).

        "sequential" counts tokens on all three, as the released script does; "mrope" gives the
        tokens of a picture one time, and their rows and columns (arXiv 2409.12191, section 2.1).
        """
        positions = np.tile(np.arange(len(self.ids)), (3, 1))
        if kind == "sequential":
            return positions
        shift = 0  # how far the positions lag behind the count of tokens
        for picture, start in zip(self.pictures, self.starts, strict=True):
            rows, columns = (side // 2 for side in picture.plan.grid)
            end, first = start + rows * columns, start - shift
            positions[0, start:end] = first
            positions[1, start:end] = first + np.repeat(np.arange(rows), columns)
            positions[2, start:end] = first + np.tile(np.arange(columns), rows)
            shift = end - (first + max(rows, columns))
            positions[:, end:] = np.arange(end, len(self.ids)) - shift
        return positions


class Template:
    """Turns contents into sequences. Thread-safe.

    Special tokens are recognised only where the template has them: in a text, `<|image_pad|>` is
    plain text.

    Args:
        tokenizer: Qwen's; it is changed to read special tokens as text.
        settings: Those of the checkpoint.
        family: The checkpoint's.

    Raises:
        EmbedderUnavailable: the tokenizer lacks a special token.
    """

    def __init__(self, tokenizer: "Tokenizer", settings: Settings, family: Family = RZEN) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer
        self._settings = settings
        self._family = family
        self._special: dict[Special, int] = {}
        for token in Special:
            number = tokenizer.token_to_id(token.value)
            if number is None:
                raise EmbedderUnavailable(
                    f"the tokenizer is not that of {family.title}: it does not know {token.value}"
                )
            self._special[token] = number
        self._ending = _appended(tokenizer) if family.tokenizer_ends else []

    def sequence(self, content: Content, role: Role) -> TokenSequence:
        """Return the sequence of a content.

        At most `settings.frames` frames of a video are used, evenly spaced. If the sequence would
        be longer than `settings.max_tokens`, pictures are scaled down and words are cut.

        Raises:
            Unfit: there are too many pictures, or the instruction is too long.
        """
        settings = self._settings
        modality = content.modality if content.frames else Modality.TEXT
        instruction = content.instruction
        if instruction is None:
            instruction = self.instruction(modality, role)
        instruction = _plain(instruction)
        words = content.text or ""
        if modality is Modality.PAGE and not settings.page_text:
            words = ""
        pictures = self._pictures(content, modality)

        bare, _ = self._assembled(pictures, instruction, "")
        room = settings.max_tokens - len(bare) + _tokens(pictures)
        if room < settings.max_tokens // 4:
            raise Unfit("the instruction leaves no room for the content: shorten it")
        # The rest would be cut anyway; tokenizing a book first would take seconds.
        whole, words = words, _plain(words[: _MAX_TOKEN_CHARACTERS * settings.max_tokens])
        for_pictures = room - min(len(self._ids(words)), _MIN_TEXT_TOKENS)
        reduced = []
        if pictures and _tokens(pictures) > for_pictures:
            pictures = self._scaled_down(pictures, modality, for_pictures)
            reduced.append("its pictures are read at a lower resolution")
        allowed = room - _tokens(pictures)
        while True:
            kept = self._cut(words, allowed)
            ids, starts = self._assembled(pictures, instruction, kept)
            excess = len(ids) - settings.max_tokens
            if excess <= 0:
                break
            allowed -= excess
        if len(kept) < len(whole):
            reduced.append(f"only the first {len(kept):,} characters of its text are read")
        return TokenSequence(
            np.array(ids, dtype=np.int64), pictures, tuple(starts), " and ".join(reduced)
        )

    def instruction(self, modality: Modality, role: Role) -> str:
        """Return the instruction for a content without one.

        For a query, it is the one that finds pictures, since the kind searched is unknown here.
        """
        if role == "document":
            return self._settings.document_instructions[modality]
        return self._settings.query_instructions[modality, Modality.IMAGE]

    def _assembled(
        self, pictures: Sequence[Picture], instruction: str, words: str
    ) -> tuple[list[int], list[int]]:
        """Return the ids, and where each picture's tokens begin."""
        ids: list[int] = []
        starts: list[int] = []
        text = ""  # adjacent texts are tokenized together
        for part in self._family.layout(self._settings, pictures, instruction, words):
            if isinstance(part, str):
                text += part
                continue
            ids += self._ids(text)
            text = ""
            if isinstance(part, Picture):
                starts.append(len(ids))
                ids += [self._special[Special.IMAGE_PAD]] * part.plan.tokens
            else:
                ids.append(self._special[part])
        return [*ids, *self._ids(text), *self._ending], starts

    def _pictures(self, content: Content, modality: Modality) -> tuple[Picture, ...]:
        """Choose frames, group those that are read together, and plan their sizes."""
        groups: Sequence[_Group] = [((frame,), None) for frame in content.frames]
        if modality is Modality.VIDEO:
            groups = self._video(content)
        tokens = self._tokens_of_one(modality, len(groups))
        return tuple(Picture(frames, self._plan(frames, tokens), time) for frames, time in groups)

    def _video(self, content: Content) -> list[_Group]:
        """Choose frames of a video, and pair them where the family reads pairs."""
        pairs = self._family.frame_pairs
        chosen = evenly(len(content.frames), self._settings.frames, truncated=pairs)
        if not pairs:
            return [((content.frames[i],), None) for i in chosen]
        chosen += chosen[-1:] * (len(chosen) % 2)  # the last frame of an odd number is read twice
        frames = [content.frames[i] for i in chosen]
        if content.times:
            times = [content.times[i] for i in chosen]
        else:
            times = [i / _ASSUMED_FRAME_RATE for i in range(len(chosen))]
        return [
            ((frames[i], frames[i + 1]), (times[i] + times[i + 1]) / 2)
            for i in range(0, len(chosen), 2)
        ]

    def _scaled_down(
        self, pictures: Sequence[Picture], modality: Modality, room: int
    ) -> tuple[Picture, ...]:
        """Plan smaller sizes, so that the pictures have at most `room` tokens together."""
        share = room // len(pictures)
        if share < _MIN_PICTURE_TOKENS:
            raise Unfit(
                f"{len(pictures)} pictures do not fit into {self._settings.max_tokens} tokens: "
                f"give {room // _MIN_PICTURE_TOKENS} at most"
            )
        minimum, _ = self._tokens_of_one(modality, len(pictures))
        tokens = min(minimum, share), share
        pictures = tuple(replace(one, plan=self._plan(one.frames, tokens)) for one in pictures)
        if _tokens(pictures) > room:
            raise Unfit("its pictures are too elongated to fit together: crop them")
        return pictures

    def _tokens_of_one(self, modality: Modality, count: int) -> tuple[float, float]:
        """Return the minimum and the maximum of tokens of one of `count` pictures."""
        settings = self._settings
        if modality is not Modality.VIDEO:
            return settings.image_tokens
        minimum, maximum = settings.frame_tokens
        if settings.video_tokens is None:
            return minimum, maximum
        return minimum, max(minimum, min(maximum, settings.video_tokens / count))

    def _plan(self, frames: Sequence[Image.Image], tokens: tuple[float, float]) -> Plan:
        family = self._family
        return planned(frames[0].size, tokens, family.patch_side, family.first_step)

    def _cut(self, words: str, count: int) -> str:
        """Cut the words after `count` tokens."""
        encoded = self._tokenizer.encode(words, add_special_tokens=False)
        if len(encoded.ids) <= count:
            return words
        end: int = encoded.offsets[max(0, count)][0]
        return words[:end]

    def _ids(self, text: str) -> list[int]:
        found: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return found


def evenly(total: int, count: int, *, truncated: bool) -> list[int]:
    """Choose at most `count` of `total` frames, evenly spaced, the first and the last included.

    Args:
        total: How many frames there are.
        count: How many to choose at most.
        truncated: Whether positions between two frames go to the earlier one instead of the nearer.
    """
    if total <= count:
        return list(range(total))
    positions = np.linspace(0, total - 1, count)
    chosen: list[int] = (positions if truncated else positions.round()).astype(int).tolist()
    return chosen


def _appended(tokenizer: "Tokenizer") -> list[int]:
    """Return the special tokens that a tokenizer appends to a text by its post-processor."""
    encoded = tokenizer.encode("x")
    end = len(encoded.ids) - encoded.special_tokens_mask[::-1].index(0)
    found: list[int] = encoded.ids[end:]
    return found


def _tokens(pictures: Iterable[Picture]) -> int:
    """Count the tokens of pictures."""
    return sum(picture.plan.tokens for picture in pictures)


def _plain(text: str) -> str:
    """Replace lone surrogates, which no tokenizer accepts."""
    return text.encode(errors="replace").decode()
