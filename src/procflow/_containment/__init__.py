"""How far termination reaches: the port and its levels."""
