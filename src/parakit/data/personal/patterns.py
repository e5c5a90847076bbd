"""Personal data with a form: e-mail addresses, numbers of phones, accounts, cards and devices, and national ids.

Numbers with a checksum are found where it is right, so that few others are taken for them. Phone numbers have none: they are
found by their usual groups, a leading + or 0, or a word such as "Tel." before them. Dates of birth, addresses and ids of
other countries are not looked for.

Most text has neither: each pattern begins with a class of rare characters, which the engine of `re` finds quickly, and what
comes before it is looked at afterwards; numbers are compared with patterns only inside of stretches with enough digits.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from parakit.data.personal.checksums import (
    IBAN_LENGTHS,
    is_card,
    is_german_tax_id,
    is_iban,
    is_nhs_number,
    is_nif,
)

Found = tuple[str, int, int]
"""The kind, and where it begins and ends, in characters."""

_LOCAL = re.compile(r"[\w.+%!#$&'*/=?^`{|}~-]{1,64}\Z")
_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,6}[^\W\d_]{2,24}(?![\w@-])")
_IBAN = re.compile(r"\d\d[ -]?[A-Za-z0-9]")
_STRETCH = re.compile(r"[\d+(][\d ().\-/+]{6,}")
_CARD = re.compile(r"(?<![\d.,])\d(?:[ -]?\d){11,18}(?!\d)(?![.,]\d)")
_IP4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d)")
_VERSION = re.compile(r"(?:\bv|version|section|chapter|release|§)[ .:]*\Z", re.IGNORECASE)
_COLONS = re.compile(r":[0-9A-Fa-f]{0,4}:")
_IP6 = re.compile(r"(?<![\w:.])(?=[0-9A-Fa-f:]*\d)(?:[0-9A-Fa-f]{0,4}:){2,7}[0-9A-Fa-f]{1,4}(?![\w:])")
_PAIR = re.compile(r"[:-][0-9A-Fa-f]{2}[:-]|\.[0-9A-Fa-f]{4}\.")
_MAC = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])(?:[0-9A-Fa-f]{2}\1){4}[0-9A-Fa-f]{2}(?![\w:-])"
    r"|(?<![\w.])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![\w.])"
)
_SSN = re.compile(r"(?<![\w-])(?!000|666|9)\d{3}([- ])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])")
_NIF = re.compile(r"(?<!\w)(?:\d{8}|\d{2}\.\d{3}\.\d{3}|[XYZxyz]-?\d{7})[- ]?[A-Za-z](?!\w)")
_TAX = re.compile(r"(?<![\d.,])[1-9]\d ?\d{3} ?\d{3} ?\d{3}(?![.,]?\d)")
_NHS = re.compile(r"(?<![\d.,-])(?:\d{3} \d{3} \d{4}|\d{10})(?![\d-])")
_NHS_WORD = re.compile(r"\bnhs\b[^\d\n]{0,30}\Z", re.IGNORECASE)
_PHONE = re.compile(
    r"(?<![\w+])(?:"
    r"(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]{0,2}\(?\d{1,5}\)?){2,6}"  # international
    r"|(?:1[ .\-])?(?:\([2-9]\d{2}\)|[2-9]\d{2})[ .\-]{1,2}\d{3}[ .\-]\d{4}"  # North America
    r"|(?:\(0\d{1,5}\)|0\d{1,5})[ \-/.]{1,3}\d{2,5}(?:[ \-/.]?\d{2,5}){1,4}"  # trunk prefix
    r")(?!\w|[.,]\d)"
)
_PHONE_WORD = re.compile(
    r"\b(?:tel(?:ephone|efon)?|phone|fon|fax|mobile?|mobil|cell|handy|call|whatsapp|rufnummer)\b"
    r"(?: ?(?:no|nr|number))?[.:#]{0,2} {0,3}\Z",
    re.IGNORECASE,
)
_PLAIN_PHONE = re.compile(r"\+?\(?\d[\d ()/.\-]{4,18}\d(?!\w)")
_DATE = re.compile(r"\d{4}[-./ ]\d{1,2}[-./ ]\d{1,2}\Z|\d{1,2}[-./ ]\d{1,2}[-./ ]\d{4}\Z")
_DIGIT = re.compile(r"\d")
_NO_DIGITS = re.compile(r"\D")

KINDS = (
    *("email", "iban", "credit_card", "mac_address", "ip_address", "es_nif", "us_ssn", "uk_nhs", "de_tax_id"),
    "phone",
)
"""Kinds of personal data with a form, the surest first."""


def find_personal_data(text: str) -> Iterator[Found]:
    """Each piece of personal data, in no particular order; two of them may overlap, and then the kind that comes first in
    `KINDS` is the surer one.
    """
    yield from _emails(text)
    if not _DIGIT.search(text):
        return
    yield from _ibans(text)
    yield from _hexadecimal(text)
    for stretch in _STRETCH.finditer(text):
        begin, end = stretch.span()
        n_digits = len(_digits(stretch[0]))
        if n_digits >= 6 or stretch[0].count(".") >= 3:
            yield from _numbers(text, begin, end, n_digits)


def _emails(text: str) -> Iterator[Found]:
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(0, at - 64), at)
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            begin = local.start() + len(local[0]) - len(local[0].lstrip(".'`*|{/=?&"))
            if begin < at:
                yield "email", begin, domain.end()
        at = text.find("@", at + 1)


def _ibans(text: str) -> Iterator[Found]:
    for match in _IBAN.finditer(text):
        begin = match.start() - 2
        country = text[max(0, begin) : match.start()].upper()
        length = IBAN_LENGTHS.get(country)
        if not length or text[max(0, begin - 1) : begin].isalnum():
            continue
        compact, end = country + match[0][:2], match.start() + 2
        while len(compact) < length and end < len(text):
            step = 1 if text[end] in " -" else 0
            c = text[end + step : end + step + 1]
            if not (c.isascii() and c.isalnum()):
                break
            compact, end = compact + c.upper(), end + step + 1
        if compact.isascii() and is_iban(compact) and not text[end : end + 1].isalnum():
            yield "iban", begin, end


def _hexadecimal(text: str) -> Iterator[Found]:
    """Addresses of machines that are written with hexadecimal digits."""
    if _PAIR.search(text):
        for match in _MAC.finditer(text):
            yield "mac_address", *match.span()
    if _COLONS.search(text):
        for match in _IP6.finditer(text):
            try:
                ipaddress.IPv6Address(match[0])
            except ValueError:
                continue
            if sum(map(bool, match[0].split(":"))) >= 3:
                yield "ip_address", *match.span()


def _digits(text: str) -> str:
    return _NO_DIGITS.sub("", text)


def _compact(text: str) -> str:
    return "".join(c for c in text.upper() if c.isascii() and c.isalnum())


_CHECKED: tuple[tuple[str, re.Pattern[str], Callable[[str], bool], int], ...] = (
    ("credit_card", _CARD, lambda found: is_card(_digits(found)), 12),
    ("us_ssn", _SSN, lambda found: True, 9),
    ("es_nif", _NIF, lambda found: len(_compact(found)) == 9 and is_nif(_compact(found)), 7),
    ("de_tax_id", _TAX, lambda found: is_german_tax_id(_digits(found)), 11),
)
"""Kinds with a checksum or rules of their own, and the digits that they have at least."""


def _numbers(text: str, begin: int, end: int, n_digits: int) -> Iterator[Found]:
    """What is in a stretch of digits and signs."""
    low, high = max(0, begin - 2), end + 3  # the letters of a NIF, and what must not follow
    for kind, pattern, test, least in _CHECKED:
        if n_digits >= least:
            for match in pattern.finditer(text, low, high):
                if match[0].isascii() and test(match[0]):
                    yield kind, *match.span()
    for match in _IP4.finditer(text, low, high):
        if match[0].isascii() and not _VERSION.search(text, max(0, match.start() - 12), match.start()):
            yield "ip_address", *match.span()
    for match in _NHS.finditer(text, low, high) if n_digits >= 10 else ():
        grouped = " " in match[0] or _NHS_WORD.search(text, max(0, begin - 40), match.start())
        if grouped and match[0].isascii() and is_nhs_number(_digits(match[0])):
            yield "uk_nhs", *match.span()
    for match in _PHONE.finditer(text, low, high):
        if 7 <= len(_digits(match[0])) <= 15 and not _DATE.match(match[0]):
            yield "phone", *match.span()
    plain = (
        _PLAIN_PHONE.match(text, begin, high) if _PHONE_WORD.search(text, max(0, begin - 30), begin) else None
    )
    if plain and 6 <= len(_digits(plain[0])) <= 15 and not _DATE.match(plain[0]):
        yield "phone", *plain.span()
