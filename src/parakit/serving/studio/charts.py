"""Options of the studio's charts (ECharts), from numbers. Colors read in both themes; tooltips are drawn on the canvas, so that
a name in them is text and never markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from parakit.reports.charts import Point

COLORS = ("#2f7de1", "#e0752d", "#2a9d6f", "#a05fd0", "#d9485f", "#8a8f2c", "#2aa7b8", "#b5651d")
INK, RULE = "#8a8f98", "rgba(138,143,152,0.25)"
HEAT = ("rgba(224,117,45,0)", "rgba(224,117,45,0.35)", "rgba(214,86,24,0.75)", "rgba(176,52,8,1)")
PAPER_HEAT = (
    "#fdf3ea",
    "#f3b98d",
    "#d2601f",
    "#8f2a05",
)  # opaque: what is written on it reads in both themes
DIVERGING = ("#2f7de1", "rgba(138,143,152,0.08)", "#d9485f")


def color_of(number: int) -> str:
    """The color of the n-th curve."""
    return COLORS[number % len(COLORS)]


def _axis(kind: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "name": name,
        "nameLocation": "middle",
        "nameGap": 26,
        "axisLabel": {"color": INK, "hideOverlap": True},
        "nameTextStyle": {"color": INK},
        "axisLine": {"lineStyle": {"color": RULE}},
        "splitLine": {"lineStyle": {"color": RULE}},
        **more,
    }


def _frame(tooltip: Mapping[str, Any], description: str = "") -> dict[str, Any]:
    return {
        "animation": False,
        "aria": {"enabled": True, **({"label": {"description": description}} if description else {})},
        "tooltip": {"renderMode": "richText", "confine": True, **tooltip},
        "textStyle": {"fontFamily": "inherit"},
    }


def line_chart(
    curves: Sequence[tuple[str, str, Sequence[Point]]],
    x_name: str = "step",
    log: bool = False,
    faint: Sequence[tuple[str, Sequence[Point]]] = (),
    description: str = "",
    dashed: Sequence[str] = (),
) -> dict[str, Any]:
    """Curves of (name, color, points). `faint`: (color, points) drawn behind them without a name, as the values before
    smoothing. `dashed`: names of curves that are drawn so.
    """
    behind = [
        {
            "type": "line",
            "data": [list(p) for p in points],
            "showSymbol": False,
            "silent": True,
            "lineStyle": {"color": color, "width": 1, "opacity": 0.25},
            "itemStyle": {"color": color},
            "tooltip": {"show": False},
        }
        for color, points in faint
    ]
    lines = [
        {
            "type": "line",
            "name": name,
            "data": [list(p) for p in points],
            "showSymbol": len(points) < 12,
            "symbolSize": 5,
            "lineStyle": {"color": color, "width": 2, "type": "dashed" if name in dashed else "solid"},
            "itemStyle": {"color": color},
        }
        for name, color, points in curves
    ]
    return {
        **_frame({"trigger": "axis", "valueFormatter": None}, description),
        "grid": {"left": 56, "right": 14, "top": 12, "bottom": 42},
        "xAxis": _axis("value", x_name, min="dataMin", max="dataMax", splitLine={"show": False}),
        "yAxis": _axis("log" if log else "value", scale=True, nameLocation="end"),
        "series": [*behind, *lines],
    }


def bar_chart(rows: Sequence[tuple[str, float]], unit: str = "", color: str = COLORS[0]) -> dict[str, Any]:
    """Horizontal bars, the first on top."""
    names = [name for name, _ in rows]
    widest = min(180, 12 + 7 * max((len(name) for name in names), default=4))
    return {
        **_frame({"trigger": "item"}),
        "grid": {"left": widest, "right": 60, "top": 6, "bottom": 34},
        "xAxis": _axis("value", unit),
        "yAxis": _axis("category", data=names, inverse=True, splitLine={"show": False}),
        "series": [
            {
                "type": "bar",
                "data": [value for _, value in rows],
                "itemStyle": {"color": color, "borderRadius": 3},
                "barMaxWidth": 22,
            }
        ],
    }


def heat_map(
    columns: Sequence[str],
    rows: Sequence[str],
    cells: Sequence[tuple[int, int, float]],
    low: float,
    high: float,
    names: tuple[str, str] = ("", ""),
    diverging: bool = False,
    label_columns: bool = True,
) -> dict[str, Any]:
    """Cells of (column, row, value); the first row is on top. Labels are numbered, since ECharts takes equal names for one."""
    tilted = {"rotate": 60, "interval": 0} if len(columns) > 12 else {"interval": 0}
    return {
        **_frame({"trigger": "item"}),
        "grid": {"left": 64, "right": 12, "top": 10, "bottom": 78 if label_columns else 44},
        "xAxis": _axis(
            "category",
            names[0],
            data=list(columns),
            nameGap=60 if label_columns else 26,
            axisLabel={"color": INK, **tilted} if label_columns else {"color": INK},
            splitLine={"show": False},
        ),
        "yAxis": _axis(
            "category", names[1], data=list(rows), inverse=True, nameGap=44, splitLine={"show": False}
        ),
        "visualMap": {
            "show": False,
            "min": low,
            "max": high,
            "inRange": {"color": list(DIVERGING if diverging else HEAT)},
        },
        "series": [{"type": "heatmap", "data": [list(cell) for cell in cells], "progressive": 0}],
    }


def scatter(points: Sequence[tuple[str, float, float, bool]]) -> dict[str, Any]:
    """A map of labels; the strong ones are larger."""
    data = [
        {
            "name": label,
            "value": [x, y],
            "symbolSize": 11 if strong else 6,
            "itemStyle": {"color": COLORS[1] if strong else COLORS[0]},
            "label": {"fontWeight": "bold" if strong else "normal"},
        }
        for label, x, y, strong in points
    ]
    blank: dict[str, Any] = {"axisLabel": {"show": False}, "axisTick": {"show": False}}
    return {
        **_frame({"trigger": "item"}),
        "grid": {"left": 16, "right": 70, "top": 16, "bottom": 16},
        "xAxis": _axis("value", scale=True, **blank),
        "yAxis": _axis("value", scale=True, **blank),
        "series": [
            {
                "type": "scatter",
                "data": data,
                "label": {"show": True, "formatter": "{b}", "position": "right", "color": INK},
                "labelLayout": {"hideOverlap": True},
            }
        ],
    }
