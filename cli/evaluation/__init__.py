"""What ``sightline evaluate`` measures: identification, verification and calibration on labelled photos."""
