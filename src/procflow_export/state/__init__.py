"""The state store: cursors, chunk ledger, file log and leases in SQLite, one writer, numbered migrations.

Empty until incremental exports and resume need it.
"""
