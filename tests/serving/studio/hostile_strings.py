"""Strings that run a script where they are taken for markup, for a template, or for a part of a script."""

from __future__ import annotations

from itertools import product

MARK = "window.__ran=1"
_FORMS = (
    "<script>{}</script>",
    "<img src=x onerror={}>",
    "<svg onload={}>",
    "<svg><script>{}</script></svg>",
    "<iframe srcdoc='<script>parent.{}</script>'>",
    "<a href='javascript:{}' id=bait>a</a>",
    "<details open ontoggle={}>",
    "<input autofocus onfocus={}>",
    "<body onload={}>",
    "<math><mtext><img src=x onerror={}></mtext></math>",
    "<style>@keyframes x{{}}</style><p style='animation-name:x' onanimationstart={}>",
    "{{{{constructor.constructor('{}')()}}}}",
    "${{{}}}",
    "`);{};(`",
    "');{};('",
    '");{};("',
    "</script><script>{}</script>",
    "--><img src=x onerror={}>",
    "]]><script>{}</script>",
    "[a](javascript:{})",
    '![a](x" onerror="{})',
    '" onmouseover="{}" x="',
    "' autofocus onfocus='{}",
    "<p v-html=\"'<img src=x onerror={}>'\">",
    "<component :is=\"'script'\">{}</component>",
    "&lt;script&gt;{}&lt;/script&gt;",
    "%3Cscript%3E{}%3C/script%3E",
    "\\u003cscript\\u003e{}\\u003c/script\\u003e",
    "<template><script>{}</script></template>",
    "<object data='data:text/html,<script>{}</script>'></object>",
)
_CODES = (MARK, "window['__ran']=1", "top.__ran=1", "self.__ran=1", "eval('window.__ran=1')")
_BEFORE = ("", " ", "a", '"', "'", ">", "\u2028", "\t", "</p>", "\u202e", "<!--", "`")
_AFTER = ("", "<", "'\"", "\u0000x".replace("\u0000", ""))


def hostile_strings(n: int) -> list[str]:
    """`n` different ones, each form among the first thirty."""
    found = [form.format(MARK) for form in _FORMS]
    others = (
        before + form.format(code) + after
        for before, code, after, form in product(_BEFORE, _CODES, _AFTER, _FORMS)
    )
    seen = set(found)
    for one in others:
        if len(found) >= n:
            break
        if one not in seen:
            seen.add(one)
            found.append(one)
    return found[:n]
