"""Checksums of numbers that people are given: whether digits that look like one can be one."""

from __future__ import annotations

_NIF_LETTERS = "TRWAGMYFPDXBNJZSQVHLCKE"

IBAN_LENGTHS = {  # ISO 13616, the registry of SWIFT
    **{
        "AD": 24,
        "AE": 23,
        "AL": 28,
        "AT": 20,
        "AZ": 28,
        "BA": 20,
        "BE": 16,
        "BG": 22,
        "BH": 22,
        "BR": 29,
        "CH": 21,
    },
    **{
        "CR": 22,
        "CY": 28,
        "CZ": 24,
        "DE": 22,
        "DK": 18,
        "DO": 28,
        "EE": 20,
        "EG": 29,
        "ES": 24,
        "FI": 18,
        "FO": 18,
    },
    **{
        "FR": 27,
        "GB": 22,
        "GE": 22,
        "GI": 23,
        "GL": 18,
        "GR": 27,
        "GT": 28,
        "HR": 21,
        "HU": 28,
        "IE": 22,
        "IL": 23,
    },
    **{
        "IS": 26,
        "IT": 27,
        "JO": 30,
        "KW": 30,
        "KZ": 20,
        "LB": 28,
        "LI": 21,
        "LT": 20,
        "LU": 20,
        "LV": 21,
        "MC": 27,
    },
    **{
        "MD": 24,
        "ME": 22,
        "MK": 19,
        "MR": 27,
        "MT": 31,
        "MU": 30,
        "NL": 18,
        "NO": 15,
        "PK": 24,
        "PL": 28,
        "PS": 29,
    },
    **{
        "PT": 25,
        "QA": 29,
        "RO": 24,
        "RS": 22,
        "SA": 24,
        "SE": 24,
        "SI": 19,
        "SK": 24,
        "SM": 27,
        "TN": 24,
        "TR": 26,
    },
    **{"UA": 29, "VA": 22, "VG": 24, "XK": 20},
}


def is_iban(compact: str) -> bool:
    """ISO 7064 mod 97-10, and the length of its country. `compact`: upper case without spaces."""
    if IBAN_LENGTHS.get(compact[:2]) != len(compact):
        return False
    return int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 == 1


def is_card(digits: str) -> bool:
    """The check digit of Luhn (ISO/IEC 7812), and a length and beginning that issuers of cards have."""
    n, two, three, four = len(digits), int(digits[:2]), int(digits[:3]), int(digits[:4])
    known = (
        (digits[0] == "4" and n in (13, 16, 19))
        or (n == 16 and (51 <= two <= 55 or 2221 <= four <= 2720))
        or (n == 15 and two in (34, 37))
        or (16 <= n <= 19 and (two in (35, 62, 65) or four == 6011 or 644 <= three <= 649))
        or (14 <= n <= 19 and (two in (36, 38, 39) or 300 <= three <= 305))
        or (12 <= n <= 19 and (two in (50, 56, 57, 58, 67) or four in (6304, 6390)))
    )
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return known and total % 10 == 0


def is_nif(compact: str) -> bool:
    """The letter of a Spanish DNI or NIE. `compact`: upper case, nine characters."""
    number = str("XYZ".index(compact[0])) + compact[1:-1] if compact[0] in "XYZ" else compact[:-1]
    return _NIF_LETTERS[int(number) % 23] == compact[-1]


def is_german_tax_id(digits: str) -> bool:
    """Eleven digits: ISO 7064 mod 11,10, and of the first ten one digit that is there twice or three times."""
    counts = sorted(digits[:10].count(digit) for digit in set(digits[:10]))
    if digits[0] == "0" or counts[-1] not in (2, 3) or counts[:-1].count(1) != len(counts) - 1:
        return False
    product = 10
    for digit in map(int, digits[:10]):
        total = (digit + product) % 10 or 10
        product = total * 2 % 11
    return (11 - product) % 10 == int(digits[10])


def is_nhs_number(digits: str) -> bool:
    """Ten digits with the check digit of the British health service (modulo 11)."""
    check = 11 - sum(int(digit) * (10 - place) for place, digit in enumerate(digits[:9])) % 11
    return check != 10 and check % 11 == int(digits[9])
