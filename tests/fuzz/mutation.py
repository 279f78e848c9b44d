"""Deterministic mutations of seeds, as an unguided fuzzer makes them."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_PIECES = [
    *(
        b"\0",
        b"\xff",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xf0\x9f\x8c\x8a",
        b"\xcc\x81",
        b"\xe2\x80\xae",
    ),
    *(b"\n", b"\r\n", b" ", b"\t", b"\xc2\xa0", b'"', b"'", b"\\", b"\\ud800", b"%2e%2e", b"%2f"),
    *(
        b"../",
        b"..\\",
        b"/",
        b"//",
        b":",
        b"*",
        b"^",
        b"-",
        b"+",
        b"(",
        b")",
        b"{",
        b"}",
        b"[",
        b"]",
    ),
    *(b"null", b"true", b"NaN", b"Infinity", b"-1", b"0", b"1e999", b"9" * 30, b"9" * 5000),
    *(
        b" AND ",
        b" OR ",
        b" NOT ",
        b" NEAR(",
        b"<!--",
        b"<![",
        b"<pre>",
        b"&#x110000;",
        b"[" * 3000,
    ),
]


@dataclass(frozen=True, slots=True)
class _Key:
    text: str


_GONE = object()
_OTHERS = (_GONE, None, -1, 1, 10**400, 1e999, "", "../x", [], {})


def altered(text: str | bytes) -> Iterator[str]:
    """Yield JSON with one value or key removed or replaced, at any depth."""
    try:
        paths = list(_paths(json.loads(text)))
    except (ValueError, RecursionError):
        return
    for *above, last in paths:
        for change in (*_OTHERS, *_other_keys(last)):
            value = json.loads(text)
            around = value
            for step in above:
                around = around[step]
            if change is _GONE:
                del around[last]
            elif isinstance(change, _Key):
                around[change.text] = around.pop(last)
            else:
                around[last] = change
            yield json.dumps(value)


def _other_keys(key: str | int) -> list[_Key]:
    """Return keys similar to a key of an object; none for an index of an array."""
    if isinstance(key, int):
        return []
    return [_Key(one) for one in ("", f" {key}", f"{key}\n", key.upper())]


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    steps = (
        value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    )
    for step in steps:
        yield (step,)
        yield from ((step, *rest) for rest in _paths(value[step]))


def mutations(name: str, seeds: Sequence[bytes], count: int) -> Iterator[bytes]:
    """Yield mutations of seeds.

    Args:
        name: Seed of the random generator.
        seeds: Inputs to start from.
        count: Number of mutations.
    """
    for number in range(count):
        chance = random.Random(f"{name} {number}")
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 4, 8))):
            chance.choice((_flip, _insert, _cut, _repeat, _splice))(data, chance, seeds)
        yield bytes(data[:20_000])


def _flip(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def _insert(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _stretch(data, chance)
    data[start : chance.choice((start, end))] = chance.choice(_PIECES)


def _cut(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _stretch(data, chance)
    del data[start:end]


def _repeat(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _stretch(data, chance)
    data[start:start] = data[start:end] * chance.choice((1, 2, 50))


def _splice(data: bytearray, chance: random.Random, seeds: Sequence[bytes]) -> None:
    start, end = _stretch(data, chance)
    other = chance.choice(seeds)
    data[start:end] = other[slice(*_stretch(other, chance))]


def _stretch(data: bytes | bytearray, chance: random.Random) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 2, 4, 16, 64)))
