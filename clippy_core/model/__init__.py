"""The dual encoder: configuration, towers, presets, weights."""
