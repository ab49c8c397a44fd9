"""Streams: one ordered log a stream, a cursor a subscriber, a pump that reads, readers that make lines.

``log`` and ``splitter`` decide and are pure; ``pump``, ``subscription``, ``lines`` and ``stream`` act on what they say.
Nothing here knows processes: a stream reads any ``ByteSource``.
"""
