"""Attacking a model, and a report of it: what was asked, what it said, and how often attacks succeeded."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"RedTeamJob": "running", "red_team": "running"})

__all__ = ["RedTeamJob", "red_team"]
