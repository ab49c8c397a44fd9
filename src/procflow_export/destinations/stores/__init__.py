"""Object stores as destinations: Amazon S3 and its relatives, Google Cloud Storage, Azure Blob Storage.

Owns everything that knows obstore: how a store is opened (``opening``), how its failures become ours (``failures``), and
the destination itself (``store``, ``part``).
"""
