"""Which score names somebody: from the calibration, the kind of probe and the size of the gallery."""

from dataclasses import dataclass

from core.models.spec import ProbeKind
from core.settings import RecognizeSettings
from embed.calibration import Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """The threshold in use. Pure; any thread."""

    calibration: Calibration
    settings: RecognizeSettings

    def threshold(self, kind: ProbeKind, references: int) -> float:
        """Return the cosine at which a probe that was compared with so many references is named."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        return self.calibration.threshold(kind=kind, fpir=self.settings.target_fpir, gallery_size=max(1, references))
