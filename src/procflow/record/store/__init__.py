"""Records as rows of a SQLite database: a cache of them, which can be deleted and made again."""
