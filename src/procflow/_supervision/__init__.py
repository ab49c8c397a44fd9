"""Restart policies, ``map_run`` and limits: what runs more than one child on purpose.

Owns nothing yet.  Will sit on the public face of ``_process`` and must not reach into spawning or streams.
"""
