"""What people see while an export runs and after it: cards on a terminal, plain lines elsewhere, a summary at the end.

``board`` folds events into card states and ``layout`` turns those into rows of text: both are pure.  ``painter`` and ``plain``
put rows on a stream.  Nothing here starts work, reads a clock on its own or knows an engine.
"""
