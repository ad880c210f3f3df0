"""Single scans: one file in, an embedding or a prediction out, without a store."""
