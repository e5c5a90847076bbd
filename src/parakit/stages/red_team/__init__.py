"""Red teaming: attack a model, judge its answers, and report how often attacks succeed."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"RedTeamJob": "running", "red_team": "running"})

__all__ = ["RedTeamJob", "red_team"]
