"""Planning: what a configuration and a table's profile amount to.  Pure: no I/O, no clock, no event loop."""
