"""The soak: rounds of random work, until the time is over or something is wrong."""
