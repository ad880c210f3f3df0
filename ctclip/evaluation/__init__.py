"""Evaluation: from embeddings and prompts to scores with intervals."""
