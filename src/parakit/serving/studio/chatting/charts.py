"""The options of the chat page's chart, as ECharts takes them. Labels are drawn on a canvas: text, never markup."""

from __future__ import annotations

from parakit.common.files import JsonObject
from parakit.serving.studio.chatting.distribution import NextTokenView

_COLOURS = ("#2f6db3", "#0d9488", "#d97706")
_TEXT = "#8b887f"  # readable on light and on dark


def distribution_options(view: NextTokenView) -> JsonObject:
    """Bars of the likeliest tokens at every temperature."""
    text = {"color": _TEXT, "fontSize": 12}
    series = [
        {
            "name": f"temperature {temperature:g}",
            "type": "bar",
            "data": [round(100 * value, 2) for value in row],
            "itemStyle": {"color": colour, "borderRadius": [0, 3, 3, 0]},
            "barGap": "10%",
            "barCategoryGap": "28%",
        }
        for temperature, row, colour in zip(view.temperatures, view.probabilities, _COLOURS, strict=False)
    ]
    return {
        "animation": False,
        "grid": {"left": 6, "right": 26, "top": 52, "bottom": 4, "containLabel": True},
        "legend": {"top": 0, "left": 0, "textStyle": text, "itemWidth": 12, "itemHeight": 10, "itemGap": 8},
        "xAxis": {
            "type": "value",
            "max": 100,
            "axisLabel": {**text, "formatter": "{value} %"},
            "splitLine": {"lineStyle": {"color": "#8b887f33"}},
        },
        "yAxis": {
            "type": "category",
            "inverse": True,
            "data": [visible(token) for token in view.tokens],
            "axisLabel": {**text, "fontFamily": "monospace", "width": 110, "overflow": "truncate"},
            "axisTick": {"show": False},
            "axisLine": {"show": False},
        },
        "series": series,
    }


def visible(token: str) -> str:
    """A token with its spaces and line ends made visible."""
    return token.replace("\n", "⏎").replace("\t", "⇥").replace(" ", "·") or "∅"
