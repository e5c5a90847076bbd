"""Commands of LaTeX that stand for a character, and accents."""

from __future__ import annotations

import unicodedata

SYMBOLS = {
    "ss": "ß", "ae": "æ", "AE": "Æ", "oe": "œ", "OE": "Œ", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "aa": "å", "AA": "Å",
    "i": "ı", "j": "ȷ", "th": "þ", "dh": "ð", "dj": "đ", "DJ": "Đ", "ng": "ŋ", "dots": "…", "ldots": "…", "textellipsis": "…",
    "LaTeX": "LaTeX", "LaTeXe": "LaTeX2e", "TeX": "TeX", "BibTeX": "BibTeX", "S": "§", "P": "¶", "copyright": "©",
    "pounds": "£", "euro": "€", "texteuro": "€", "textdegree": "°", "degree": "°", "textbackslash": "\\",
    "textasciitilde": "~", "textasciicircum": "^", "textunderscore": "_", "textbar": "|", "textless": "<",
    "textgreater": ">", "textendash": "–", "textemdash": "—", "textquoteleft": "‘", "textquoteright": "’",
    "textquotedblleft": "“", "textquotedblright": "”", "glqq": "„", "grqq": "“", "guillemotleft": "«",
    "guillemotright": "»", "textbullet": "•", "textregistered": "®", "texttrademark": "™", "dag": "†", "ddag": "‡",
    "quad": " ", "qquad": " ", "enspace": " ", "space": " ", "slash": "/", "textperiodcentered": "·", "nobreakspace": " ",
}  # fmt: skip
ACCENTS = {
    "'": "\u0301", "`": "\u0300", "^": "\u0302", '"': "\u0308", "~": "\u0303", "=": "\u0304", ".": "\u0307", "c": "\u0327",
    "v": "\u030c", "H": "\u030b", "u": "\u0306", "k": "\u0328", "r": "\u030a", "d": "\u0323", "b": "\u0331",
}  # fmt: skip


def accented(command: str, argument: str) -> str:
    """The argument with the accent on its first letter."""
    letter = {"ı": "i", "ȷ": "j"}.get(argument[:1], argument[:1])
    if not letter.strip():
        return argument
    return unicodedata.normalize("NFC", letter + ACCENTS[command]) + argument[1:]
