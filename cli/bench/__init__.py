"""Benchmarks: each prints JSON with the hardware and compares in one run."""
