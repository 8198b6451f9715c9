"""Measuring a model: benchmarks, metrics, reports."""
