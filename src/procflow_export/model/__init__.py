"""Values that cross a boundary: plan, settings, run events, error codes, manifest, column types.

No I/O, no clock, no event loop, no driver: everything here can be built in a test and sent to another process.
"""
