"""From events to what a run was: one fold, for a view in memory and for rows of a database, live or afterwards."""
