"""Passwords and keys in text: what a model would learn by heart and repeat to anybody.

The patterns are the published forms of keys (private-key blocks of RFC 7468, JSON web tokens of RFC 7519, the prefixes that
providers document for their tokens, credentials in a URL of RFC 3986), and a value after a word such as "password". A value
is found by its form alone; whether it still opens anything is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_PATTERNS = {
    "private_key": r"-----BEGIN (?:[A-Z]+ ){0,2}PRIVATE KEY-----[\s\S]{0,8000}?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)",
    "web_token": r"\beyJ[\w-]{8,2000}\.eyJ[\w-]{8,4000}\.[\w-]{8,2000}",
    "access_key": r"\b(?:(?:AKIA|ASIA)[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{36,255}|xox[abprs]-[\w-]{10,200}"
    r"|AIza[\w-]{35}|sk-[\w-]{20,200}|glpat-[\w-]{20}|hf_[A-Za-z0-9]{30,60})\b",
    "credentials_in_url": r"\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{1,64}:[^\s/@]{1,128}@[\w.-]+",
    "password": r"(?i)\b(?:password|passwd|pwd|passwort|kennwort|mot de passe|contraseña|secret[_-]?key|api[_-]?key)"
    r"\s{0,3}(?::=|=>|[:=])\s{0,3}[\"']?(?=[^\s\"']*(?:\d|[^\w\s.,;:!?()]))[^\s\"'<>]{6,128}",
}
SECRETS = tuple(_PATTERNS)
"""Kinds of secrets."""
_COMPILED = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_SIGNS = {  # one of which each has; searching for them is faster than for the pattern
    "private_key": ("PRIVATE KEY",),
    "web_token": ("eyJ",),
    "access_key": (
        "AKIA",
        "ASIA",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "xox",
        "AIza",
        "sk-",
        "glpat-",
        "hf_",
    ),
    "credentials_in_url": ("://",),
    "password": (
        *("password", "passwd", "pwd", "passwort", "kennwort", "mot de passe", "contraseña"),
        *("secretkey", "secret_key", "secret-key", "apikey", "api_key", "api-key"),
    ),
}


def find_secrets(text: str) -> Iterator[tuple[str, int, int]]:
    """(kind, begin, end) of each secret, in characters, in no particular order; two of them may overlap."""
    low = text.lower()
    for kind, signs in _SIGNS.items():
        searched = low if kind == "password" else text
        if any(sign in searched for sign in signs):
            for match in _COMPILED[kind].finditer(text):
                yield kind, match.start(), match.end()
