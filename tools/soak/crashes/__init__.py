"""Exports that are killed, and what is published afterwards: the parts of ``./run soak commit``."""
