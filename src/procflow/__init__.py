"""Child processes for async Python."""
