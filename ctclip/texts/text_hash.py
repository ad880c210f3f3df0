"""Texts and ids as numbers that tensors can carry: 63 bits of BLAKE2b. Equal texts, equal numbers."""

import hashlib

from ctclip.reports.sections import clean_text


def hash_text(text: str) -> int:
    """The number of a text in the form the tokenizer sees; case and spacing do not count.

    Returns:
        0 .. 2**63 - 1: the first 63 bits of BLAKE2b. Two of a million different texts are equal with a chance of
        about 5e-8.

    Example:
        >>> hash_text("Spleen: Normal.") == hash_text("spleen :  normal .")
        True
    """
    return hash_id(clean_text(text))


def hash_id(name: str) -> int:
    """The number of an id, every character of which counts; 0 .. 2**63 - 1."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1
