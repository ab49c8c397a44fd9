"""Services, fan-out, readiness: what runs more than one child on purpose, and how a child is found to be ready.

Owns restarts, maps, probes and the account of descriptors.  Sits on ``_process`` and must not know how a process is started,
stopped or read.
"""
