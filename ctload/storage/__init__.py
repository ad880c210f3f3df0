"""Storage: a store on disk, its tables, digests and reads."""
