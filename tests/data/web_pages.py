"""Web pages whose main text is known: ten layouts with navigation, advertisements, banners, comments, related links and
footers around an article with headings, lists, tables, quotes and code.

A page is a pure function of its number. Half of the words of the frame are also words of articles, as on real pages.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from html import escape

_SYLLABLES = [consonant + vowel for consonant in "bdfklmnrst" for vowel in "aeio"]
_FREQUENT = (
    "the of and to in a is that for it was on with as by at from this are be or an have not but which they"
)
_COMMON = _FREQUENT.split()


class _Writer:
    """Sentences of one page, from a random source of its own."""

    def __init__(self, number: int) -> None:
        self.random = random.Random(f"page {number}")
        self._words = [
            "".join(self.random.choices(_SYLLABLES, k=self.random.randint(2, 4))) for _ in range(300)
        ]

    def sentence(self, low: int = 8, high: int = 22) -> str:
        n = self.random.randint(low, high)
        words = [
            self.random.choice(_COMMON if self.random.random() < 0.45 else self._words) for _ in range(n)
        ]
        if n > 12:
            words[n // 2] += ","
        return " ".join(words).capitalize() + self.random.choice(["."] * 8 + ["?", "!"])

    def paragraph(self) -> str:
        return " ".join(self.sentence() for _ in range(self.random.randint(2, 6)))

    def title(self) -> str:
        return " ".join(self.random.choices(self._words, k=self.random.randint(2, 5))).capitalize()

    def link(self) -> str:
        return f'<a href="/{self.random.choice(self._words)}">{self.title()}</a>'


def make_page(number: int) -> tuple[str, str]:
    """The HTML of page `number`, and its main text, a block a line."""
    writer = _Writer(number)
    parts: list[str] = []
    body = [_heading(writer, parts, 1)]
    for _ in range(writer.random.randint(2, 5)):
        if writer.random.random() < 0.4:
            body.append(_heading(writer, parts, 2))
        for _ in range(writer.random.randint(1, 3)):
            body.append(_paragraph(writer, parts))
        body.append(writer.random.choice(_BLOCKS)(writer, parts))
    return _LAYOUTS[number % len(_LAYOUTS)](writer, "\n".join(body)), "\n".join(parts)


def word_f1(found: str, expected: str) -> float:
    """F1 of the words of two texts, as multisets: the harmonic mean of precision and recall, between 0 and 1."""
    a, b = (Counter(re.findall(r"\w+", text.lower())) for text in (found, expected))
    common = (a & b).total()
    return 2 * common / (a.total() + b.total()) if a or b else 1.0


def _heading(writer: _Writer, parts: list[str], level: int) -> str:
    parts.append(title := writer.title())
    return f"<h{level}>{title}</h{level}>"


def _paragraph(writer: _Writer, parts: list[str]) -> str:
    parts.append(text := writer.paragraph())
    words = text.split(" ")
    at = writer.random.randrange(len(words))
    words[at] = f'<a href="/x">{words[at]}</a>' if writer.random.random() < 0.5 else f"<em>{words[at]}</em>"
    return f"<p>{' '.join(words)}</p>"


def _list(writer: _Writer, parts: list[str]) -> str:
    items = [writer.sentence(4, 12) for _ in range(writer.random.randint(3, 6))]
    parts.extend(items)
    return "<ul>" + "".join(f"<li>{item}</li>" for item in items) + "</ul>"


def _table(writer: _Writer, parts: list[str]) -> str:
    rows = [[writer.title() for _ in range(3)] for _ in range(writer.random.randint(2, 5))]
    parts.extend(" ".join(row) for row in rows)
    cells = [
        "".join(f"<t{'dh'[not i]}>{cell}</t{'dh'[not i]}>" for cell in row) for i, row in enumerate(rows)
    ]
    return "<table>" + "".join(f"<tr>{row}</tr>" for row in cells) + "</table>"


def _code(writer: _Writer, parts: list[str]) -> str:
    lines = [
        f"{writer.title().split()[0].lower()} = f({i}) < {i + 1}" for i in range(writer.random.randint(2, 6))
    ]
    parts.extend(lines)
    return f"<pre><code>{escape(chr(10).join(lines))}</code></pre>"


def _quote(writer: _Writer, parts: list[str]) -> str:
    parts.append(text := writer.paragraph())
    return f"<blockquote><p>{text}</p></blockquote>"


def _figure(writer: _Writer, parts: list[str]) -> str:
    parts.append(text := writer.sentence())
    return f'<figure><img src="a.png" alt="{writer.title()}"><figcaption>{text}</figcaption></figure>'


_BLOCKS: tuple[Callable[[_Writer, list[str]], str], ...] = (_list, _table, _code, _quote, _figure)


def _page(writer: _Writer, body: str) -> str:
    style = "<style>body { color: black }</style><script>var a = 'text of a script';</script>"
    return (
        f'<!DOCTYPE html><html><head><meta charset="utf-8"><title>{writer.title()}</title>{style}</head>'
        f"<body>{body}</body></html>"
    )


def _nav(writer: _Writer, tag: str = "nav") -> str:
    items = "".join(f"<li>{writer.link()}</li>" for _ in range(writer.random.randint(5, 12)))
    return f'<{tag} class="menu navigation"><ul>{items}</ul></{tag}>'


def _advertisement(writer: _Writer) -> str:
    return f'<div class="ad advertisement"><p>{writer.sentence()}</p><a href="#">Buy now</a></div>'


def _comments(writer: _Writer, kind: str = "div") -> str:
    rows = "".join(
        f'<div class="comment"><span class="author">{writer.title()}</span><p>{writer.sentence()}</p><a>Reply</a></div>'
        for _ in range(writer.random.randint(2, 8))
    )
    return f'<{kind} id="comments" class="comments"><h3>Comments</h3>{rows}</{kind}>'


def _related(writer: _Writer) -> str:
    items = "".join(f"<li>{writer.link()}</li>" for _ in range(5))
    return f'<aside class="related sidebar"><h3>Related</h3><ul>{items}</ul></aside>'


def _banner(writer: _Writer) -> str:
    return f'<div id="cookie-banner" class="cookie-consent"><p>{writer.sentence()}</p><button>Accept</button></div>'


def _footer(writer: _Writer, tag: str = "footer") -> str:
    links = " | ".join(writer.link() for _ in range(4))
    return f'<{tag} class="footer"><p>Copyright {writer.title()}. All rights reserved.</p>{links}</{tag}>'


def _news(w: _Writer, body: str) -> str:
    return _page(
        w,
        f"<header>{_nav(w)}</header>{_banner(w)}<main><article>{body}</article>{_advertisement(w)}</main>"
        f"{_related(w)}{_comments(w, 'section')}{_footer(w)}",
    )


def _blog(w: _Writer, body: str) -> str:
    post = f'<div class="post"><div class="entry-content">{body}</div>{_comments(w)}</div>'
    return _page(
        w,
        f'<div id="header">{_nav(w, "div")}</div><div id="wrapper">{post}{_related(w)}</div>{_footer(w, "div")}',
    )


def _documentation(w: _Writer, body: str) -> str:
    side = f'<div class="toc sidebar">{_nav(w)}</div>'
    return _page(
        w,
        f'{_nav(w)}<div class="container">{side}<div role="main" class="document">{body}</div></div>{_footer(w)}',
    )


def _bare(w: _Writer, body: str) -> str:
    return _page(w, body)


def _old(w: _Writer, body: str) -> str:
    """A layout by tables, as in the nineties."""
    menu = "<br>".join(w.link() for _ in range(8))
    return _page(
        w,
        f'<table><tr><td width="150">{menu}</td><td>{body}</td></tr></table><center>{w.link()} {w.link()}</center>',
    )


def _divs(w: _Writer, body: str) -> str:
    """Nothing but divisions without names."""
    return _page(
        w,
        f"<div><div>{w.link()} {w.link()} {w.link()}</div><div><div>{body}</div></div><div>{w.link()}</div></div>",
    )


def _shop(w: _Writer, body: str) -> str:
    cards = "".join(f'<div class="card">{w.link()}<span>12.99</span></div>' for _ in range(8))
    return _page(
        w,
        f'{_nav(w)}<div class="product-description">{body}</div><div class="recommended">{cards}</div>{_footer(w)}',
    )


def _encyclopedia(w: _Writer, body: str) -> str:
    content = f'<div id="content"><div id="bodyContent"><div id="mw-content-text">{body}</div></div></div>'
    return _page(
        w,
        f'{content}<div id="mw-navigation">{_nav(w)}</div><div id="catlinks">{w.link()}{w.link()}</div>{_footer(w)}',
    )


def _forum(w: _Writer, body: str) -> str:
    share = '<div class="share social"><a>Share</a> <a>Tweet</a> <a>Like</a></div>'
    return _page(
        w,
        f'{_nav(w)}<div class="thread"><div class="message first">{body}</div>{share}</div>{_related(w)}{_footer(w)}',
    )


def _magazine(w: _Writer, body: str) -> str:
    middle = body.find("<p>", len(body) // 2)
    text = body[:middle] + _advertisement(w) + body[middle:] if middle > 0 else body
    crumbs = f'<ol class="breadcrumb"><li>{w.link()}</li><li>{w.link()}</li></ol>'
    return _page(
        w,
        f'{_nav(w)}{crumbs}<section class="article-body">{text}</section>{_comments(w)}{_banner(w)}{_footer(w)}',
    )


_LAYOUTS: tuple[Callable[[_Writer, str], str], ...] = (
    _news, _blog, _documentation, _bare, _old, _divs, _shop, _encyclopedia, _forum, _magazine,
)  # fmt: skip
