"""Event streams of other tools, read as if they were records."""
