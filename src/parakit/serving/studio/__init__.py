"""The studio: pages in a browser to chat with models, look into them, rate their answers and train them."""

from parakit.serving.studio.context import StudioContext
from parakit.serving.studio.mounting import mount_studio

__all__ = ["StudioContext", "mount_studio"]
