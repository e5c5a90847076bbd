"""What every package needs: settings, artifact folders with lineage, seeds, devices, progress, errors. Imports no other
package, and torch only inside functions.
"""

from parakit.common.artifacts import Lineage, open_artifact, writing_artifact
from parakit.common.errors import CorruptArtifact, UserError

__all__ = ["CorruptArtifact", "Lineage", "UserError", "open_artifact", "writing_artifact"]
