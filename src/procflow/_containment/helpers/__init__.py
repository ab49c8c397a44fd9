"""The programs that run beside the host: single files that need nothing but the standard library.

They are started as ``python -I -S FILE``, never imported by the host.
"""
