"""What a build tells people: the page, its charts, the model card, figures in words."""

from parakit.common.lazy import lazy_exports

__getattr__, __dir__ = lazy_exports(__name__, {"render_report": "rendering", "write_report": "rendering"})
__all__ = ["render_report", "write_report"]
