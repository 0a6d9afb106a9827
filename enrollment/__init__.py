"""Enrollment: a photo becomes a subject in the gallery."""
