"""Object stores as destinations: Amazon S3 and its relatives, Google Cloud Storage, Azure Blob Storage.

Owns everything that knows obstore: how a store is opened (``opening``, ``credentials``), how its failures become ours
(``failures``), what is left of uploads (``uploads``), and the destination itself (``store``, ``part``).  Importing the package
imports nothing of that: exports to directories need none of it.
"""
