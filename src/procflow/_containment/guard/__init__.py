"""The guard: what ends with its host."""
