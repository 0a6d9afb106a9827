"""Embed: face to chip to embedding; quality and calibration. No I/O."""
