"""Texts: what of a report the text tower reads, and the prompts it is asked with."""
