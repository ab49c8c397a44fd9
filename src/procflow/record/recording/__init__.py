"""A run while it is being recorded: the block around it, its jobs, and the calls that they make."""
