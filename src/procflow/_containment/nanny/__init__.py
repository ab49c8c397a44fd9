"""The nanny: what cannot get away."""
