"""Checks on the data: quality gates, row hash, schema drift; validate, reconcile, repair.

Empty until the first of them is built.
"""
