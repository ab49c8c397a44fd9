"""The demo: a sample shop, exported by child processes and read back."""
