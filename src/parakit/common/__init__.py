"""What every room needs: settings, artifact folders with lineage, seeds, devices, progress, errors. Imports
no other room, and torch only inside functions.
"""

from parakit.common.artifacts import Artifact, Lineage, open_artifact, verify_manifest, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError
from parakit.common.settings import Config, closest_match, config_digest, load_yaml

__all__ = [
    "Artifact",
    "Config",
    "CorruptArtifact",
    "Lineage",
    "UserError",
    "config_digest",
    "load_yaml",
    "closest_match",
    "open_artifact",
    "verify_manifest",
    "writing_artifact",
]
