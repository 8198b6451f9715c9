"""Segments without labels."""
