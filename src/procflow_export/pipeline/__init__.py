"""One run: from planned exports to published sets.  Retry, limits, totals and the finalise path exist here, once."""
