"""Encodings of text: bytes → characters, by marks, by declarations, and else by the letters.

Older programs wrote text in one of dozens of encodings and did not say in which. Bytes that are no
UTF-8 are decoded in each encoding that is still met, and the most plausible text is taken: that
with the likeliest letters of one language, few strange signs, and words that hang together.
"""
# ruff: noqa: RUF001 -- letters of other scripts are what this is about

import codecs
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

_DECLARED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9._-]{2,30})""")
# Codecs that Python knows but no document is written in, and those that have been tried before.
_NO_CHARSETS = {
    *("ascii", "utf-8", "utf-7", "idna", "punycode", "undefined"),
    *("unicode-escape", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape"),
}
# What is written by programs that declare the smaller encoding, as browsers take it.
# Source: https://encoding.spec.whatwg.org/#names-and-labels
_SUPERSETS = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "big5": "cp950",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "iso2022_jp": "iso2022_jp_ext",
}
_NAMES = {
    "cp932": "Shift JIS",
    "cp949": "EUC-KR",
    "cp950": "Big5",
    "cp874": "Windows-874",
    "iso2022_jp_ext": "ISO-2022-JP",
}
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Of mails, whose bytes are all ASCII though their characters are not.
_SEVEN_BIT_CODECS = {"hz", "iso2022_kr", "utf-7"}
_JIS_SHIFT = re.compile(rb"\x1b\$[@B]|\x1b\$\(D")
_UTF16_SEPARATORS = frozenset("\n 、。，")
_NO_TEXT = {"Cc", "Cn", "Co", "Cs"}  # of Unicode's categories
# Among the controls that texts have are the end of a DOS text and the start of colours.
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\v\b\x1a\x1b"))


class Decoded(NamedTuple):
    """A text, and Python's name of the codec that it was decoded by."""

    text: str
    codec: str


def decode(data: bytes, declared: str | None = None) -> Decoded:
    """Decode text of unknown encoding; never fails, at worst some characters are wrong.

    Args:
        data: The bytes.
        declared: The encoding that is named elsewhere, as in the header of a mail; without it,
            what an HTML or XML file declares.

    Returns:
        The text; the same for the same bytes.
    """
    for mark, codec in _MARKS:
        if data.startswith(mark):
            return Decoded(data.decode(codec, "replace").removeprefix("\ufeff"), codec)
    if codec_16 := looks_utf16(data[:4096]):
        return Decoded(data.decode(codec_16, "replace"), codec_16)
    if _JIS_SHIFT.search(data) and (text := _strictly(data, "iso2022_jp_ext")) is not None:
        return Decoded(text, "iso2022_jp_ext")
    if data.isascii() and (codec_7 := _seven_bit_codec(declared)):
        return Decoded(data.decode(codec_7, "replace"), codec_7)
    if (text := _strictly(data, "utf-8")) is not None:
        return Decoded(text, "utf-8")
    if codec_named := _text_codec(declared or _declaration(data)):
        return Decoded(data.decode(codec_named, "replace"), codec_named)
    mended = data.decode("utf-8", "replace")
    if mended.count("\ufffd") * 20 <= sum(character > "\x7f" for character in mended):
        return Decoded(mended, "utf-8")  # with a few damaged bytes
    codec = likeliest_codec(data)
    if codec == "cp1252" and _strictly(data, codec) is None:
        codec = "latin-1"  # which has a character for each byte
    return Decoded(data.decode(codec, "replace"), codec)


def encoding_name(codec: str) -> str | None:
    """Return what people call an encoding; None for UTF-8, which needs no mention."""
    if codec.startswith("utf-8"):
        return None
    if codec.startswith("cp125"):
        return f"Windows-{codec[2:]}"
    return _NAMES.get(codec, codec.upper().replace("_", "-").replace("ISO8859", "ISO-8859"))


def looks_binary(head: bytes) -> bool:
    """Whether the first bytes of a file cannot be the start of a text in any usual encoding."""
    if head.startswith(tuple(mark for mark, _ in _MARKS)):
        return False
    return (b"\0" in head or _has_controls(head)) and not looks_utf16(head)


def looks_utf16(head: bytes) -> str | None:
    """Return the codec of UTF-16 without a mark, by its high bytes; None for other bytes.

    Those of Latin letters are zeros, those of other alphabets few different ones. Chinese, Japanese
    and Korean have many, but punctuation or line ends between them.
    """
    pairs = len(head) // 2
    if pairs < 2 or not (b"\0" in head or _has_controls(head)):
        return None
    even, odd = head[0 : 2 * pairs : 2], head[1 : 2 * pairs : 2]
    for codec, low, high in (("utf-16-le", even, odd), ("utf-16-be", odd, even)):
        if high.count(0) > pairs * 0.4 and low.count(0) <= pairs * 0.02:
            return codec
        text = codecs.getincrementaldecoder(codec)("replace").decode(head)
        is_alphabet = 2 * len(set(high)) <= len(set(low))
        is_cjk = not head.isascii() and not _UTF16_SEPARATORS.isdisjoint(text)
        if (is_alphabet or is_cjk) and _is_printable(text):
            return codec
    return None


def _has_controls(head: bytes) -> bool:
    return len(head) - len(head.translate(None, _CONTROLS)) > len(head) // 50


def _is_printable(text: str) -> bool:
    """Whether a text is of characters and white space, with few exceptions."""
    strange = sum(unicodedata.category(one) in _NO_TEXT and not one.isspace() for one in text)
    return (strange + text.count("\ufffd")) * 50 <= len(text)


def _strictly(data: bytes, codec: str) -> str | None:
    try:
        return data.decode(codec)
    except UnicodeDecodeError:
        return None


def _declaration(data: bytes) -> str | None:
    """Return the encoding that an HTML or XML file declares."""
    head = data[:2048]
    found = _DECLARED.search(head) if head.lstrip().startswith(b"<") else None
    name = found[1].decode() if found else ""
    # A declaration that can be read byte by byte is not in UTF-16.
    return None if name.lower().startswith(("utf-16", "utf-32")) else name


def _seven_bit_codec(name: str | None) -> str | None:
    try:
        codec = codecs.lookup(name or "").name
    except (LookupError, ValueError):
        return None
    return codec if codec in _SEVEN_BIT_CODECS else None


def _text_codec(name: str | None) -> str | None:
    """Return Python's codec for the name of an encoding, if documents may be written in it."""
    try:
        codec = codecs.lookup(name or "")
        codec.decode(b"", "strict")
        b"".decode(codec.name)
    except (LookupError, ValueError, TypeError):
        return None
    return None if codec.name in _NO_CHARSETS else _SUPERSETS.get(codec.name, codec.name)


# For each language the codecs it is met in, and its letters from the most frequent on, as counted
# in translations of programs; those of scripts with thousands, in texts of all kinds.
_LANGUAGES = (
    ("cp1252 cp850", "etaoinsrhdlucmfywgpbvkxqjzéèñïöüçáâàêôíó"),  # English
    ("cp1252 cp850", "esirntaoludcpémfgvhbqxyàèêzjkôwîçùûëïœÿæüñö"),  # French
    ("cp1252 cp850", "enitrsadlughocmbfkpwzüväöyxßqjé"),  # German
    ("cp1252 cp850", "eaonirscdltupmóbfvgáhíqxyúzjñéwkçàª"),  # Spanish
    ("cp1252 cp850", "eaoirsdntcmlpuãfçvbgháíxzqéõóújykêwâàü"),  # Portuguese
    ("cp1252 cp850", "eioantlrscdupmgvfzbèhqàyùxkòéwjîúíóäö"),  # Italian
    ("cp1252 cp850", "entairosdlgmvpkubhcwfjézyxóëïüöàèä"),  # Dutch
    ("cp1252 cp850", "eaisrtlnodcumpfgbxóvhàéqíèòzçújykïwü"),  # Catalan
    ("cp1252 cp850", "entarilsdogmkfävpöuåbchyjxwzqéàüø"),  # Swedish
    ("cp1252 cp850", "erntisladkogmfvupæbøhåyjcxéwzöäü"),  # Danish
    ("cp1252 cp850", "ertnilaskodgmpfvuåøbhyjcxæwzéèêòôäö"),  # Norwegian
    ("cp1252 cp850", "tieasnäolkumrvydpjhöbcgfxwzšžåqé"),  # Finnish
    ("cp1252", "ianrteslkugðmfdávíyphbojóæöþúýcxéwqä"),  # Icelandic
    ("cp1252", "ëetriasnumhpojkdlgfvbzqycxwçéê"),  # Albanian
    ("cp1252 cp1257", "iaetslunkrmdoväpgüõjhbföcxwyžqšé"),  # Estonian
    ("cp1250 iso8859-2 cp852", "aeionwzrtsykcpdulmjbgłżęąśćóhfńźxvqéäüö"),  # Polish
    ("cp1250 iso8859-2 cp852", "oenatsprvuliíkdzmácbyhjřčéžýěgšfůxwúóňqťďäöüô"),  # Czech
    ("cp1250 iso8859-2 cp852", "oaenritsvpkudlmzábcyhjčíýťúéžfľšgxóäôňwĺďŕěřü"),  # Slovak
    ("cp1250 iso8859-2 cp852", "eatlsnkzráoimégvhbydjpfícóuöőüúűxwqäâ"),  # Hungarian
    ("cp1250 iso8859-2 cp852", "aeionrtjuspkdvlmzgčbcćšžfhđxywéqö"),  # Croatian
    ("cp1250 iso8859-2 cp852", "aeoinrtsvpkldjmzčubgšchžfxywéđqćöü"),  # Slovene
    ("cp1250 iso8859-2", "eiartnulcsodăpmfţbşgvzîxhâjwkyéqöüá"),  # Romanian
    ("cp1254", "aeilrnısmtdkyoubçşügzğcpövhfxwjqâîû"),  # Turkish
    ("cp1257", "iasternokupmldšyvgėjbįųąžfčcūęzhxw"),  # Lithuanian
    ("cp1257", "aitsernuoklāmpdvēzījgbšcfņļūķhžxyģwō"),  # Latvian
    (
        "cp1251 koi8-r cp866 iso8859-5 mac-cyrillic cp855",
        "оеаинтрслвкпдмузьыябйчгжфхцюшщэъё",
    ),  # Russian
    ("cp1251 koi8-u", "оаниветрікслдпмузябйьчгжєцфхшюїщґ"),  # Ukrainian
    ("cp1251", "аныркелівстдпяцмоузьўэчгбйшфхжюёщъиґ"),  # Belarusian
    ("cp1251 koi8-r", "аениотрвсдпзлкмъябучжгйфцшщхю"),  # Bulgarian
    ("cp1251", "аеионртскупдвмзјлбгњчшцљжћхфђ"),  # Serbian
    ("cp1251", "аоеитнркдсвплмзујбчгжцњшфќхѓѕџѐѝ"),  # Macedonian
    ("cp1253 iso8859-7", "αοετνισρμηπυκςίλδγέήάόχωθφύώβξζψϊϋΐΰ"),  # Greek
    ("cp1255", "יותהלמרשאנבקסדפעכגםחןצטץךזף"),  # Hebrew
    ("cp1256 iso8859-6", "الميرتوةندفعسبحقصكجأطهخذإشّضغزىثئءظؤًُِـآٌپچٍْگ"),  # Arabic
    ("cp1256", "انردهتومبشکسلفپزگخصعجقحچطآذظضغثًّژئأةيكؤٌ"),  # Persian
    ("cp874", "า่รอมนกเ้งดัลีวตสยบแไิพหจทคปขื์ชำูะุใถฟ็โซณภผึธษญฐศๆฉฮฆ๊๋ฑฒฎฏฌฬๅฝฤ"),  # Thai
    (  # Chinese, simplified
        "gb18030",
        "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之"
        "年过发后作里用道行所然家种事成方多经么去法学如都同现当没动面起看定天分还进好小部其些主样"
        "理心她本前开但因只从想实日军者意无力它与长把机十民第公此已工使情明性知全三又关点正业外将"
        "两高间由问很最重并物手应战向头文体政美相见被利什二等产或新己制身果加西月话合回特代内信表"
        "化老给世位次度门任常先海通教儿原东声提立及比员解水名真论处走义各入几口认条平系气题活尔更"
        "别打女变四神总何电数安少报才结反受目太量",
    ),
    (  # Chinese, traditional
        "cp950",
        "的一是不了在人有我他這個們中來上大為和國地到以說時要就出會可也你對生能而子那得於著下自之"
        "年過發後作裡用道行所然家種事成方多經麼去法學如都同現當沒動面起看定天分還進好小部其些主樣"
        "理心她本前開但因只從想實日軍者意無力它與長把機十民第公此已工使情明性知全三又關點正業外將"
        "兩高間由問很最重並物手應戰向頭文體政美相見被利什二等產或新己制身果加西月話合回特代內信表"
        "化老給世位次度門任常先海通教兒原東聲提立及比員解水名真論處走義各入幾口認條平系氣題活爾更"
        "別打女變四神總何電數安少報才結反受目太量",
    ),
    (  # Japanese
        "cp932 euc_jp",
        "のいるにはをたとがしてでなれさあっんりもらかすくこまそうどきつせけよめえちわおみやひじだ"
        "ばぐべげびごずぶぎろねむほへふぞざぼぱゆぬーンスルトイアラリクッシドレタカロテジフムコマ"
        "バナグサメデオプニパウエブボキミチダセズャハモビツガゼポケョソュネワノホァヤゴギヘィェ日"
        "一国会人年大十二本中長出三同時政事自行社見月分議後前民生連五対上部東者党地合市業内相方四"
        "定今回新場金員九入選立開手米力学問高代明実円関決子動京全目表戦経通外最言氏現理調体化田当"
        "八六約主題下首意法不来作性的要用制治度務強気小七成期公協取都和統以機平総加山思家話世受区"
        "領多県続進正安設保改数記院女初北午",
    ),
    (  # Korean
        "cp949",
        "이다는의가에을고지하은도로한를나사어리자서기그시아것있인해대라수일들으만게부정니스과면보"
        "여전요상원제성장주신조구거말했등오년생동적비안국무세우발금화공습개경당명분관할와내결람물"
        "러회소산없트선연운단문살방업식월형입실감용합음터파않션위데드프값치모작옵름표력패바함된버"
        "되설중디행블못레목크메브필테호출잘번변록류야열료읽미십렉베려코령키더너환마추",
    ),
)
_ENGLISH = _LANGUAGES[0][1]
_CODECS = tuple(dict.fromkeys(" ".join(used for used, _ in _LANGUAGES).split()))
# Lead bytes of the characters that each national standard lists as common, and their codec.
_COMMON_ROWS = {
    "gb18030": ("gb18030", 0xB0, 0xD7),
    "cp950": ("cp950", 0xA4, 0xC6),
    "cp932": ("euc_jp", 0xB0, 0xCF),
    "euc_jp": ("euc_jp", 0xB0, 0xCF),
    "cp949": ("cp949", 0xB0, 0xC8),
}
# Natural logarithms of likelihoods, tuned on translations of programs.
_IN_FAVOUR = {"cp1252": 3.0, "mac-cyrillic": -8.0} | dict.fromkeys(
    ("cp850", "cp852", "cp855", "iso8859-5", "iso8859-6"), -2.0
)
_UPPER_CASE = -0.7
_FOREIGN = -0.2
_MOST_FOREIGN = -15.0
_PUNCTUATION = -6.0
_SYMBOL = -7.0
_COMMON = -9.5
_STRANGE_LETTER = -11.0
_RARE = -14.0
_NO_CHARACTER = -16.0
_FLAWS = (
    # An upper-case letter after a lower-case one.
    (re.compile(r"[a-zß-öø-ÿ][A-ZÀ-ÖØ-Þ]|[а-яё-џ][А-ЯЁ-Џ]|[α-ώ][Α-Ω]"), -3.0),
    # Letters beyond Latin beside Latin ones or digits.
    (re.compile(r"[a-zA-Z0-9][\u0370-\u0e7f]|[\u0370-\u0e7f][a-zA-Z0-9]"), -5.0),
    # A sign between two letters.
    (
        re.compile(
            r"(?<=[A-Za-z\u00c0-\u06ff])[¡-©«¬®-²´¶¸»-¿×÷‚„“”…†-‡•‰‹›€™─-▟](?=[A-Za-z\u00c0-\u06ff])"
        ),
        -4.0,
    ),
)
_TYPOGRAPHY = frozenset("“”„«»‘’‚–—…•·°§©®€£\xa0¿¡ºª、。，！？「」『』（）：；・《》～　")
_SAMPLE_BYTES = 4000
_CONTEXT_BYTES = 200
_HIGH_BYTE = re.compile(rb"[\x80-\xff]")


def likeliest_codec(data: bytes) -> str:
    """Return the codec by which bytes are most plausible as a text of some language.

    Codecs are compared by the likelihood of each letter, which is the more certain the more
    letters beyond ASCII there are. Windows-1252 is preferred where there is little difference.
    """
    sample = _sample(data)
    return max(_CODECS, key=lambda codec: _plausibility(sample, codec))


def _sample(data: bytes) -> bytes:
    """Return the first parts that have bytes beyond ASCII, each with the rest of its line."""
    parts, end, size = [], 0, 0
    while size < _SAMPLE_BYTES and (found := _HIGH_BYTE.search(data, end)):
        start = max(end, found.start() - _CONTEXT_BYTES)
        start = max(start, data.rfind(b"\n", start, found.start()) + 1)
        end = min(len(data), found.start() + _SAMPLE_BYTES - size)
        line_end = data.find(b"\n", found.start(), end)
        end = line_end + 1 if line_end >= 0 else end
        parts.append(data[start:end])
        size += end - start
    return b"".join(parts)


def _plausibility(sample: bytes, codec: str) -> float:
    """Return the logarithm of how likely a text is that the bytes are in this codec."""
    # As if more bytes followed: the last ones may be half a character.
    text = codecs.getincrementaldecoder(codec)("replace").decode(sample)
    flaws = sum(weight * len(pattern.findall(text)) for pattern, weight in _FLAWS)
    flaws += _UPPER_CASE * sum(one > "\x7f" and one.isupper() for one in text)
    counts = Counter(text.replace("İ", "i").lower())
    ascii_letters = [(one, n) for one, n in counts.items() if one < "\x80" and one.isalpha()]
    others = [(one, n) for one, n in counts.items() if one >= "\x80"]
    likeliest, english = -math.inf, _logarithms(_ENGLISH)
    for used, letters in _LANGUAGES:
        if codec not in used.split():
            continue
        known = _logarithms(letters)
        if "e" in known:
            likelihood = sum(known.get(one, _STRANGE_LETTER) * n for one, n in ascii_letters)
        else:  # other scripts may have English words between their own
            likelihood = sum(english[one] * n for one, n in ascii_letters)
            likelihood += max(_MOST_FOREIGN, _FOREIGN * (25 + sum(n for _, n in ascii_letters)))
        likelihood += sum((known.get(one) or _unknown(one, codec)) * n for one, n in others)
        likeliest = max(likeliest, likelihood)
    return likeliest + flaws + _IN_FAVOUR.get(codec, 0.0)


@cache
def _logarithms(letters: str) -> Mapping[str, float]:
    """Return the logarithm of each letter's share, estimated from its rank."""
    count = len(letters)
    if count > 100:  # of thousands, the listed ones are about half of a text
        shares = [1 / (rank + 12) for rank in range(count)]
        total = sum(shares) / 0.55
    else:
        shares = [math.exp(-4 * rank / count) + 0.004 for rank in range(count)]
        total = sum(shares)
    return {one: math.log(share / total) for one, share in zip(letters, shares, strict=True)}


@cache
def _unknown(character: str, codec: str) -> float:
    """Return the logarithm of the share of what is no letter of a language."""
    category = unicodedata.category(character)
    if (category[0] == "C" and character != "\xad") or character == "\ufffd":
        return _NO_CHARACTER
    if character in _TYPOGRAPHY:
        return _PUNCTUATION
    if character in _common(codec):
        return _COMMON
    if category[0] in "LM":
        return _STRANGE_LETTER if category != "Lo" or codec not in _COMMON_ROWS else _RARE
    return _SYMBOL


@cache
def _common(codec: str) -> frozenset[str]:
    """Return the characters that the standard behind a codec lists as common."""
    if codec not in _COMMON_ROWS:
        return frozenset()
    standard, first, last = _COMMON_ROWS[codec]
    trails = [*(range(0x40, 0x7F) if codec == "cp950" else ()), *range(0xA1, 0xFF)]
    pairs = (bytes([lead, trail]) for lead in range(first, last + 1) for trail in trails)
    return frozenset(pair.decode(standard, "ignore") for pair in pairs)
