"""How a record is read: bytes to lines, lines to events, what is missing and why, and whether its writer lives."""
