"""Sampling: which studies make up each batch, as a pure function of (seed, epoch, step)."""
