"""Columns in the type that the user chose: who may have which, how values are converted, and what becomes of misfits."""
