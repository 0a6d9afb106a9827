"""Which score names somebody: from the calibration, the kind of probe and the size of the gallery."""

from dataclasses import dataclass

from core.models.spec import ProbeKind
from core.settings import RecognizeSettings
from embed.calibration import Calibration
from recognize.rules.target import Target

TRACK_AGREEMENT = 0.8  # of the varied shots that the track calibration fused (ten poses a person)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPolicy:
    """What a target means as a score, and the target in use where no rule sets one. Pure; any thread."""

    calibration: Calibration
    settings: RecognizeSettings

    @property
    def default(self) -> Target:
        """The target of the settings."""
        if self.settings.threshold is not None:
            return Target(score=self.settings.threshold)
        return Target(fpir=self.settings.target_fpir)

    def single(self, references: int) -> float:
        """Return the cosine at which one face that was compared with so many references is named, by the settings; see score."""
        return self.score(self.default, references=references)

    def score(self, target: Target, *, references: int, agreement: float | None = None) -> float:
        """Return the cosine that a target asks for.

        Averaging takes noise off impostors too, and raises their scores the more the shots differ. One shot is a single face;
        a track whose shots agree as little as in the calibration's tracks needs the calibration's track threshold; in
        between it is linear. Measured on ORL, strangers' 99.9 % score: .432 at agreement 1, .436 at .89, .451 at .85, .452 at .80.

        Args:
            target: score, FAR or FPIR.
            references: that the probe is compared with; of no matter for a score and a FAR.
            agreement: of a track's shots (see detect.tracks.Fused); None = a single face.
        """
        if target.score is not None:
            return target.score
        single = self._at(target, "single", references)
        if agreement is None:
            return single
        share = min(1.0, (1.0 - agreement) / (1.0 - TRACK_AGREEMENT))
        return single + (self._at(target, "track", references) - single) * share

    def _at(self, target: Target, kind: ProbeKind, references: int) -> float:
        if target.far is not None:
            return self.calibration.score_at(target.far, kind=kind)
        assert target.fpir is not None  # a target has one of the three
        return self.calibration.threshold(kind=kind, fpir=target.fpir, gallery_size=references)
