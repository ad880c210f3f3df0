"""Packing: sources in, a store out; resumable at any moment, never half done."""
