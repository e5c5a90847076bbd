"""Sentences with planted personal data, made with the checksums that each kind has, by code of their own."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# neither list is used by the package: it has first names of ssa.gov, and no surnames
_FIRST = (
    "Anna Lukas Sophie Matthias Ingrid Jürgen Katharina Wolfgang Giulia Marco Francesca Alessandro"
    " Camille Antoine Céline François Lucía Javier Carmen Alejandro Priya Rahul Ananya Vikram Mei Hiroshi"
    " Yuki Kenji Fatima Omar Layla Hassan Olga Dmitri Natalia Sergei Emily James Sarah Robert Jessica"
    " Daniel Rebecca Thomas Chloe Benjamin Amara Kwame Zanele Thandiwe Astrid Bjorn Freya Lars Siobhan"
    " Declan Niamh Eoin"
)
FIRST = _FIRST.split()
_LAST = (
    "Schneider Kowalski Rossi Lefebvre García Nguyen Patel Tanaka Okafor Johansson O'Connor Müller Dubois"
    " Fernández Ivanov Yamamoto Haddad Lindqvist Murphy Becker Moreau Romano Castillo Sharma Wagner"
    " Fischer Bianchi Petrov Andersen Walsh Hoffmann Laurent Esposito Navarro Iyer Suzuki Rahman Nilsson"
    " Doyle Krüger"
)
LAST = _LAST.split()
NAME_SENTENCES = (
    "The contract was signed by {} in the afternoon.",
    "{} called twice about the delivery.",
    "Please send the minutes to {} before noon.",
    "As {} wrote in the report, the pump had failed.",
    "Our new colleague {} starts next week.",
    "The patient, {}, was seen in the clinic.",
    "It was {} who found the error.",
    "We met {} and talked about the plan.",
)
TITLED = ("Mr. {}", "Mrs. {}", "Dr. {}", "Herr {}", "Frau {}", "Prof. {}")
GREETED = ("Dear {},\nthank you for the letter.", "My name is {} and I need help.", "Best regards,\n{}\n")
TEXTS_WITHOUT = (
    "The meeting on 2024-05-17 at 12:30:45 took 90 minutes; see section 3.2.1 and version 127.22.3.4 of the manual.",
    "Revenue rose from 1,234,567 to 2,345,678 euros (12.5 %), and 1200 of 4500 orders came from abroad.",
    "ISBN 978-3-16-148410-0 has 352 pages. The formula is 3.14159 * r2, about 28.2743 for r = 3.",
    "Call std::vector<int>::at(3) or Foo::Bar::baz; the mask is 0xFF00 and the hash is deadbeef.",
    "Follow @parakeet or write @channel. The price is 19.99 a month, from 01.02.2023 to 31.12.2024.",
    "In 1984 - 1989 the team played 38 matches, 120 goals in 3420 minutes; lot 2023/114/7 was sold for 5000.",
    "Room 12-34, gate B7, flight LH 455, train ICE 1025 at 18:04, platform 7, seats 101-104 and 88.",
    "Great Britain and the European Union signed in New York; the Supreme Court met in Washington on Monday.",
    "The Old Man and the Sea is a book. Python Software and Visual Studio are programs. North Sea oil fell.",
)


@dataclass(frozen=True)
class Item:
    """A text, and what is planted in it: the kind, and the words."""

    text: str
    kind: str
    value: str


def luhn(prefix: str, n: int, draw: random.Random) -> str:
    digits = prefix + "".join(draw.choice("0123456789") for _ in range(n - len(prefix) - 1))
    for check in "0123456789":
        doubled = [int(d) * (1 + (i % 2)) for i, d in enumerate(reversed(digits + check))]
        if sum(sum(divmod(d, 10)) for d in doubled) % 10 == 0:
            return digits + check
    raise AssertionError


def iban(country: str, n: int, draw: random.Random) -> str:
    account = "".join(draw.choice("0123456789") for _ in range(n - 4))
    letters = "".join(str(ord(c) - 55) for c in country)
    return f"{country}{98 - int(account + letters + '00') % 97:02}{account}"


def nhs(draw: random.Random) -> str:
    while True:
        digits = [draw.randrange(10) for _ in range(9)]
        check = (11 - sum(d * w for d, w in zip(digits, range(10, 1, -1), strict=True)) % 11) % 11
        if check < 10:
            return "".join(map(str, [*digits, check]))


def tax_id(draw: random.Random) -> str:
    while True:
        digits = draw.sample(range(10), 9)
        digits.insert(draw.randrange(1, 10), draw.choice(digits))
        if digits[0]:
            break
    rest = 10
    for digit in digits:
        rest = 2 * ((digit + rest) % 10 or 10) % 11
    return "".join(map(str, digits)) + str((11 - rest) % 10)


def grouped(digits: str, sizes: tuple[int, ...], by: str = " ") -> str:
    parts, start = [], 0
    for size in sizes:
        parts.append(digits[start : start + size])
        start += size
    return by.join([*parts, digits[start:]] if digits[start:] else parts)


def _numbers(draw: random.Random) -> dict[str, Callable[[int], str]]:
    """For each kind of number, a function that makes the i-th value."""

    def digits(count: int) -> str:
        return "".join(draw.choice("0123456789") for _ in range(count))

    def phone(i: int) -> str:
        return (
            f"+49 {draw.choice(['30', '89', '170'])} {digits(7)}",
            f"+1 ({draw.randrange(201, 989)}) {draw.randrange(200, 999)}-{digits(4)}",
            f"{draw.randrange(201, 989)}-{draw.randrange(200, 999)}-{digits(4)}",
            f"+44 20 {digits(4)} {digits(4)}",
            f"0{draw.randrange(30, 99)}/{draw.randrange(1, 9)}{digits(6)}",
            f"+33 1 {digits(2)} {digits(2)} {digits(2)} {digits(2)}",
        )[i % 6]

    def card(i: int) -> str:
        prefix, size = (("4", 16), ("51", 16), ("37", 15), ("6011", 16))[i % 4]
        number = luhn(prefix, size, draw)
        return (number, grouped(number, (4, 6) if size == 15 else (4, 4, 4), " -"[i // 4 % 2]))[i % 2]

    def account(i: int) -> str:
        number = iban(*(("DE", 22), ("ES", 24), ("AT", 20), ("BE", 16), ("PL", 28))[i % 5], draw)
        return grouped(number, (4,) * (len(number) // 4)) if i % 2 else number

    def nif(i: int) -> str:
        number = digits(8) if i % 3 else digits(7)
        value, start = (int(number), number) if i % 3 else (int(f"{i % 2}{number}"), "XY"[i % 2] + number)
        return f"{start}{'-' if i % 4 == 0 else ''}{'TRWAGMYFPDXBNJZSQVHLCKE'[value % 23]}"

    return {
        "phone": phone,
        "iban": account,
        "credit_card": card,
        "us_ssn": lambda i: (
            f"{draw.randrange(100, 666)}-{draw.randrange(10, 99)}-{draw.randrange(1000, 9999)}"
        ),
        "es_nif": nif,
        "de_tax_id": lambda i: grouped(tax_id(draw), (2, 3, 3, 3)) if i % 2 else tax_id(draw),
        "uk_nhs": lambda i: grouped(nhs(draw), (3, 3, 4)),
    }


def _others(draw: random.Random) -> dict[str, Callable[[int], str]]:
    """For each other kind, a function that makes the i-th value."""

    def word(letters: str, low: int, high: int) -> str:
        return "".join(draw.choice(letters) for _ in range(draw.randrange(low, high)))

    lower, alnum = "abcdefghijklmnoprstuvwz", "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

    return {
        "email": lambda i: (
            f"{word(lower, 3, 9)}{'.' if i % 2 else '_'}{word(lower, 3, 9)}@{word(lower, 3, 9)}."
            + ("com", "co.uk", "de", "museum")[i % 4]
        ),
        "ip_address": lambda i: (
            ".".join(str(draw.randrange(1, 255)) for _ in range(4))
            if i % 3
            else f"2001:db8:{draw.randrange(16**3, 16**4):x}::{draw.randrange(1, 999)}"
        ),
        "mac_address": lambda i: ":-"[i % 2].join(f"{draw.randrange(256):02x}" for _ in range(6)),
        "password": lambda i: (
            f"{('password', 'Passwort', 'pwd')[i % 3]}: {word(alnum, 6, 10)}{draw.randrange(10)}!"
        ),
        "access_key": lambda i: (f"AKIA{word(alnum.upper(), 16, 17)}", f"ghp_{word(alnum, 36, 37)}")[i % 2],
        "private_key": lambda i: (
            f"-----BEGIN RSA PRIVATE KEY-----\n{word(alnum, 60, 64)}\n-----END RSA PRIVATE KEY-----"
        ),
    }


def structured(seed: int = 0, n: int = 24) -> list[Item]:
    """`n` items of each kind with a form."""
    draw = random.Random(seed)
    makers = _numbers(draw) | _others(draw)
    frames = ("Please use {} from now on.", "It is {}, I think.", "({})", "Contact: {}\nThank you.", "{}")
    return [
        Item(frames[i % len(frames)].replace("{}", value), kind, value)
        for kind, make in makers.items()
        for i in range(n)
        for value in [make(i)]
    ]


def named(seed: int = 0, n: int = 120) -> list[Item]:
    """Sentences with a person's name, by turns with a title, after a greeting, and in the running text."""
    draw = random.Random(seed)
    items = []
    for i in range(n):
        first, last = draw.choice(FIRST), draw.choice(LAST)
        if i % 4 == 0:
            value, shown = last, draw.choice(TITLED).format(last)
            text = draw.choice(NAME_SENTENCES).format(shown)
        elif i % 4 == 1:
            value = f"{first} {last}" if i % 8 == 1 else first
            text = draw.choice(GREETED).format(value)
        else:
            value = f"{first} {last}"
            text = draw.choice(NAME_SENTENCES).format(value)
        items.append(Item(text, "name", value))
    return items
