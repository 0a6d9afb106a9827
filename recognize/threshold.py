"""Which score names somebody: from the calibration, the kind of probe and the size of the gallery."""

from dataclasses import dataclass

from core.settings import RecognizeSettings
from embed.calibration import Calibration

TRACK_AGREEMENT = 0.8  # of the varied shots that the track calibration fused (ten poses a person)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """The threshold in use. Pure; any thread."""

    calibration: Calibration
    settings: RecognizeSettings

    def single(self, references: int) -> float:
        """Return the cosine at which one face that was compared with so many references is named."""
        if self.settings.threshold is not None:
            return self.settings.threshold
        return self.calibration.threshold(kind="single", fpir=self.settings.target_fpir, gallery_size=references)

    def track(self, references: int, agreement: float) -> float:
        """Return the cosine at which a track is named.

        Averaging takes noise off impostors too, and raises their scores the more the shots differ. One shot is a single face;
        a track whose shots agree as little as in the calibration's tracks needs the calibration's track threshold; in
        between it is linear. Measured on ORL, strangers' 99.9 % score: .432 at agreement 1, .436 at .89, .451 at .85, .452 at .80.

        Args:
            references: compared with.
            agreement: see detect.tracks.Fused.
        """
        if self.settings.threshold is not None:
            return self.settings.threshold
        single = self.single(references)
        full = self.calibration.threshold(kind="track", fpir=self.settings.target_fpir, gallery_size=references)
        share = min(1.0, (1.0 - agreement) / (1.0 - TRACK_AGREEMENT))
        return single + (full - single) * share
