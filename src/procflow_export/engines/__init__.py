"""How work is spread: tasks of this process, or child processes; an engine only executes a unit."""
