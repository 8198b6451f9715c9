"""Contrastive training: data, loss, loop, checkpoints."""
