"""The group: what the leader and its kin are reached by."""
