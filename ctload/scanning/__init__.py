"""Scanning: what series a source holds, and which of them is packed."""
