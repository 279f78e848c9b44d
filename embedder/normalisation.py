"""Normalisation of texts: what a reader takes for the same becomes the same characters.

`readable` is for models, whose tokenizers know a word by its usual letters only. `folded` and
`words` are for looking words up: texts, names and queries go through the same steps, so that they
meet whatever the case, the accents and the hyphens.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from functools import cache, lru_cache

# Characters that are words by themselves: those of scripts that do not separate words by spaces
# (Thai, Lao, Tibetan, Myanmar, Khmer, Tai, Balinese, Javanese, kana, Bopomofo, Han), of Hangul,
# whose particles are joined to words, and emoji.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\ua980-\ua9ff\uaa60-\uaadf\u1780-\u17ff\u1950-\u1aaf\u1b00-\u1b7f"
    "\u1100-\u11ff\uac00-\ud7a3\u3005-\u3007\u3040-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff\u2600-\u27bf\U0001f000-\U0001faff"
)
_MARKS_OF_UNSPACED = "".join(
    re.escape(chr(code))
    for start, end in re.findall("(.)-(.)", _UNSPACED)
    if ord(end) - ord(start) < 0x200  # Larger blocks have no marks.
    for code in range(ord(start), ord(end) + 1)
    if unicodedata.category(chr(code))[0] == "M"
)
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")
_CHARACTER = re.compile(rf"([{_UNSPACED}][{_MARKS_OF_UNSPACED}]*)")
# As SQLite's tokenizer `ascii` has it, except that "_" joins.
_IN_WORD = "[0-9A-Za-z_\x80-\U0010ffff]"
_LETTER = f"(?:(?![{_UNSPACED}]){_IN_WORD})"
_WORD = re.compile(f"[{_UNSPACED}]+|{_LETTER}+")
_LINE_END = re.compile("[-\xad\u2010]\n[ \t]*")

# Accents and vowel points, which writers leave out: of Latin, Greek, Cyrillic, Hebrew, Arabic and
# Syriac, and the dot of Hindi's foreign sounds. The marks of other scripts are parts of letters.
_OPTIONAL_MARKS = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    "\u0730-\u074a\u093c\u08ca-\u08ff\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
    "\U000e0100-\U000e01ef]"
)
# Letters that Unicode does not decompose, by how they are written without the key for them; two
# letters that are apostrophes; as in Lucene's ArabicNormalizer and PersianNormalizer, the letters
# that writers of Arabic, Persian and Urdu use for one another, and the one that only stretches;
# likewise the nasal signs of Hindi, and the final consonants of Malayalam.
_SPELLINGS = dict(
    pair.split("=")
    for letters in (
        "æ=ae œ=oe ø=o ł=l đ=d ð=d þ=th ħ=h ŧ=t \u0131=i",
        "\u0649=\u064a \u06cc=\u064a \u06d2=\u064a \u06a9=\u0643 \u0629=\u0647 \u06be=\u0647 "
        "\u06c1=\u0647 \u06c3=\u0647 \u06d5=\u0647 \u0671=\u0627 \u0640=",
        "\u0901=\u0902 \u0d7a=\u0d23\u0d4d \u0d7b=\u0d28\u0d4d \u0d7c=\u0d30\u0d4d",
        "\u0d7d=\u0d32\u0d4d \u0d7e=\u0d33\u0d4d",
    )
    for pair in letters.split()
) | {"\u02bb": " ", "\u02bc": " "}
_WHOLE_LETTERS = {"\u0439"}  # й, which no one writes as и.
_TSHEGS = {"\u0f0b", "\u0f0c"}  # Between the syllables of Tibetan, also within words.

# Vowels and finals of Hangul's syllables, and the voicing of kana of half width.
_PART_OF_LETTER = re.compile("[\u1160-\u11ff\uff9e\uff9f]")

# A nasal before a consonant of its own place in Devanagari, for which most write the dot above:
# मुम्बई is मुंबई, हिन्दी is हिंदी.
_DOT_ABOVE = "\u0902"
_NASAL = re.compile("ङ्(?=[क-घ])|ञ्(?=[च-झ])|ण्(?=[ट-ढ])|न्(?=[त-ध])|म्(?=[प-भ])")
# The vowel am of Thai and Lao, decomposed, and a tone mark: PDFs have them in either order.
_AM_BEFORE_TONE = re.compile("([\u0e4d\u0ecd])([\u0e48-\u0e4b\u0ec8-\u0ecb])")

# Soft hyphens, spaces without width, and marks of direction; joiners are parts of emoji.
_INVISIBLE = re.compile(
    "[\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
# Kangxi radicals, ideographs for compatibility, ligatures and presentation forms, letters of full
# and half width, mathematical letters. Models read other such characters (…, ™, ½) as they are.
_FORMS = re.compile(
    "[\u2f00-\u2fd5\uf900-\ufaff\ufb00-\ufdfb\ufe70-\ufefc\uff10-\uff19\uff21-\uff3a\uff41-\uff5a"
    "\uff66-\uff9f\U0001d400-\U0001d7ff]+"
)


class _Folding(dict[int, str]):
    """What characters become, by their codes, for `str.translate`; computed at first use."""

    def __missing__(self, code: int) -> str:
        self[code] = found = _folded_character(chr(code))
        return found


def _folded_character(character: str) -> str:
    """Return what a character, in NFKC and in lower case, is looked up as."""
    category = unicodedata.category(character)
    if category == "Cf" or character in _TSHEGS:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if category[0] == "M" and _OPTIONAL_MARKS.match(character):
        return ""
    if character.isascii() or character in _WHOLE_LETTERS:
        return character
    if category[0] not in ("LNMS" if _IS_UNSPACED.match(character) else "LNM"):
        return " "
    base = _OPTIONAL_MARKS.sub("", unicodedata.normalize("NFD", character))
    spelled = "".join(_SPELLINGS.get(one, one) for one in unicodedata.normalize("NFC", base))
    return spelled.casefold()


_FOLDED = _Folding()


def readable(text: str) -> str:
    """Return a text as a model is to read it.

    Ligatures, full-width letters, presentation forms of Arabic and the like become the usual
    letters, invisible characters go, and words that are hyphenated at the end of a line are joined.
    """
    text = _with_joined_lines(text)
    if text.isascii():
        return text
    usual = _FORMS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    return _INVISIBLE.sub("", usual)


def folded(text: str) -> str:
    """Return a text as it is looked up, for SQLite's tokenizer `ascii`.

    Besides what `readable` does, case, accents and vowel points go, other letters for the same
    sound become one ("ß" and "ss"), and each character of a script without spaces is a word: in
    such a script, a word is looked up as the phrase of its characters. All that is neither a letter
    nor a digit separates words.
    """
    return " ".join(_CHARACTER.sub(r" \1 ", _without_forms(text)).split())


def words(text: str) -> list[str]:
    """Return the words of a text, in order, each `folded`; a run without spaces is one word."""
    found = _WORD.findall(_without_forms(text))
    return [folded(word) for word in found if word.strip("_")]


def occurrences(
    text: str, terms: Collection[str], *, anywhere: bool = False
) -> list[tuple[int, int]]:
    """Return where terms occur in a text, to mark them.

    Args:
        text: As it was written.
        terms: From `words`, or several of them in a row.
        anywhere: Find the terms inside words, too, and nothing but them; else whole words, also
            with a short ending.

    Returns:
        Spans in order, without overlap.
    """
    if not terms:
        return []
    pattern = _pattern(tuple(sorted(terms, key=len, reverse=True)), anywhere)
    if text.isascii():
        return [match.span() for match in pattern.finditer(text.lower())]
    starts = [at for at, one in enumerate(text) if not at or not _continues(one)]
    ends = [*starts[1:], len(text)]
    pieces = [_folded_alone(text[start:end]) for start, end in zip(starts, ends, strict=True)]
    places = [place for place, piece in enumerate(pieces) for _ in piece]
    found = pattern.finditer("".join(pieces))
    return [(starts[places[match.start()]], ends[places[match.end() - 1]]) for match in found]


@cache
def _continues(character: str) -> bool:
    """Return whether a character is a part of the one before it: a mark, or such a letter."""
    return unicodedata.category(character)[0] == "M" or bool(_PART_OF_LETTER.match(character))


@lru_cache(maxsize=4096)
def _folded_alone(cluster: str) -> str:
    return _without_forms(cluster)


@lru_cache
def _pattern(terms: Sequence[str], anywhere: bool) -> re.Pattern[str]:
    """Return a pattern of any term, anywhere or from the beginning of a word on."""
    forms = []
    for term in terms:
        apart = f"(?:(?!{_IN_WORD}).)" + ("*" if _IS_UNSPACED.search(term) else "+")
        form = apart.join(map(re.escape, term.split()))
        form = form.replace(_DOT_ABOVE, f"(?:{_DOT_ABOVE}|[ङञणनम]्)")
        if not anywhere and not _IS_UNSPACED.match(term[0]):
            form = f"(?:(?<!{_IN_WORD})|(?<=[{_UNSPACED}])){form}"
        if not anywhere and not _IS_UNSPACED.match(term[-1]):
            form += f"{_LETTER}{{0,3}}(?!{_LETTER})"
        forms.append(form)
    return re.compile("|".join(forms), re.DOTALL)


def _without_forms(text: str) -> str:
    text = _with_joined_lines(text)
    if text.isascii():
        return text.lower()
    # To lower case only, in which the iota below Greek vowels is still a mark.
    usual = unicodedata.normalize("NFKC", text).lower().translate(_FOLDED)
    return _NASAL.sub(_DOT_ABOVE, _AM_BEFORE_TONE.sub(r"\2\1", usual))


def _with_joined_lines(text: str) -> str:
    """Join words that are hyphenated at the end of a line."""

    def between(match: re.Match[str]) -> str:
        before = text[max(match.start() - 1, 0) : match.start()]
        behind = text[match.end() : match.end() + 1]
        return "" if before.isalpha() and behind.islower() else match[0]

    return _LINE_END.sub(between, text) if "\n" in text else text
