"""Detect: frame to faces (box, five landmarks, score), and face tracks per camera. No I/O."""
