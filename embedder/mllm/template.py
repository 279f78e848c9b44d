r"""The input template: a content becomes a sequence of tokens, with pad tokens for pictures.

    <|im_start|>system\n{SYSTEM}<|im_end|>\n
    <|im_start|>user\n{VISION}{INSTRUCTION}{TEXT}{PROMPT}<|im_end|>\n
    <|im_start|>assistant\n<|endoftext|>

VISION is `<|vision_start|><|image_pad|>…<|vision_end|>` for each picture or frame; instruction,
text and prompt are joined with nothing between (the released inference script of arXiv 2510.27350).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from embedder.content import Content, Modality, Role
from embedder.interface import EmbedderUnavailable
from embedder.mllm.pictures import Plan, Unfit, planned
from embedder.mllm.settings import Positions, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.int64]

_MIN_TEXT_TOKENS = 256  # kept of a text that competes with pictures
_MIN_PICTURE_TOKENS = 16
_MAX_TOKEN_CHARACTERS = 128
_SPECIAL = (
    *("<|im_start|>", "<|im_end|>", "<|endoftext|>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
)


@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """A frame and how it is resized."""

    frame: Image.Image
    plan: Plan


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
        tokenizer: Qwen2's; it is changed to read special tokens as text.
        settings: Those of the checkpoint.

    Raises:
        EmbedderUnavailable: the tokenizer lacks a special token.
    """

    def __init__(self, tokenizer: "Tokenizer", settings: Settings) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        known = [tokenizer.token_to_id(token) for token in _SPECIAL]
        if None in known:
            raise EmbedderUnavailable(
                f"the tokenizer is not Qwen2's: it does not know {_SPECIAL[known.index(None)]}"
            )
        start, end, final, *vision = (number for number in known if number is not None)
        self._tokenizer = tokenizer
        self._settings = settings
        self._vision_start, self._vision_end, self._pad = vision
        self._head = [start, *self._ids(f"system\n{settings.system}"), end, *self._ids("\n"), start]
        self._tail = [end, *self._ids("\n"), start, *self._ids("assistant\n"), final]

    def sequence(self, content: Content, role: Role) -> TokenSequence:
        """Return the sequence of a content.

        At most `settings.frames` frames of a video are used, evenly spaced. If the sequence would
        be longer than `settings.max_tokens`, pictures are scaled down and words are cut.

        Raises:
            Unfit: there are too many pictures, or the instruction is too long.
        """
        settings = self._settings
        frames = content.frames
        if content.modality is Modality.VIDEO:
            frames = evenly(frames, settings.frames)
        modality = content.modality if frames else Modality.TEXT
        instruction = content.instruction
        if instruction is None:
            instruction = self.instruction(modality, role)
        instruction = _plain(instruction)
        prompt = settings.visual_prompt if frames else settings.text_prompt
        words = content.text or ""
        if modality is Modality.PAGE and not settings.page_text:
            words = ""

        room = settings.max_tokens - self._length_without(frames, instruction, prompt)
        if room < settings.max_tokens // 4:
            raise Unfit("the instruction leaves no room for the content: shorten it")
        # The rest would be cut anyway; tokenizing a book first would take seconds.
        whole, words = words, _plain(words[: _MAX_TOKEN_CHARACTERS * settings.max_tokens])
        wanted = min(len(self._ids(words)), _MIN_TEXT_TOKENS)
        pictures, smaller = self._pictures(frames, modality, room - wanted)
        allowed = room - sum(picture.plan.tokens for picture in pictures)
        while True:
            kept = self._cut(words, allowed)
            ids, starts = self._assembled(pictures, instruction, kept, prompt)
            excess = len(ids) - settings.max_tokens
            if excess <= 0:
                break
            allowed -= excess
        reduced = ["its pictures are read at a lower resolution"] if smaller else []
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
        self, pictures: Sequence[Picture], instruction: str, words: str, prompt: str
    ) -> tuple[list[int], list[int]]:
        """Return the ids, and where each picture's tokens begin."""
        prompted = f"{instruction}{words}{prompt}"
        if not pictures:
            return [*self._head, *self._ids(f"user\n{prompted}"), *self._tail], []
        ids, starts = [*self._head, *self._ids("user\n")], []
        for picture in pictures:
            starts.append(len(ids) + 1)
            ids += [self._vision_start, *[self._pad] * picture.plan.tokens, self._vision_end]
        return [*ids, *self._ids(prompted), *self._tail], starts

    def _length_without(self, frames: Sequence[object], instruction: str, prompt: str) -> int:
        """Count the tokens of a sequence without its text and without its pictures."""
        prompted = len(self._ids("user\n")) + len(self._ids(f"{instruction}{prompt}"))
        return len(self._head) + prompted + 2 * len(frames) + len(self._tail)

    def _pictures(
        self, frames: Sequence[Image.Image], modality: Modality, room: int
    ) -> tuple[tuple[Picture, ...], bool]:
        """Plan the frames' sizes; also return whether they are smaller than usual."""
        settings = self._settings
        video = modality is Modality.VIDEO
        minimum, maximum = settings.frame_tokens if video else settings.image_tokens
        plans = [planned(frame.size, (minimum, maximum)) for frame in frames]
        smaller = sum(plan.tokens for plan in plans) > room
        if smaller:
            share = room // len(frames)
            if share < _MIN_PICTURE_TOKENS:
                raise Unfit(
                    f"{len(frames)} pictures do not fit into {settings.max_tokens} tokens: give "
                    f"{room // _MIN_PICTURE_TOKENS} at most"
                )
            plans = [planned(frame.size, (min(minimum, share), share)) for frame in frames]
            if sum(plan.tokens for plan in plans) > room:
                raise Unfit("its pictures are too elongated to fit together: crop them")
        pairs = zip(frames, plans, strict=True)
        return tuple(Picture(frame, plan) for frame, plan in pairs), smaller

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


def evenly(frames: Sequence[Image.Image], count: int) -> tuple[Image.Image, ...]:
    """Choose at most `count` frames, evenly spaced, the first and the last included."""
    if len(frames) <= count:
        return tuple(frames)
    chosen = np.linspace(0, len(frames) - 1, count).round().astype(int)
    return tuple(frames[i] for i in chosen)


def _plain(text: str) -> str:
    """Replace lone surrogates, which no tokenizer accepts."""
    return text.encode(errors="replace").decode()
