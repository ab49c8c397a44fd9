"""Spawning, reaping, stopping and running one process."""
