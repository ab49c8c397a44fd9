"""How a row is named where something is said of it.

Owns the words.  Must not know where the row is: whoever asks shows its values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence


class RowNames:
    """Names the rows of a chunk, which come in order, by the values of a key; by their number where there is no key.

    Attributes:
        row_count: Rows before those that are named next.
    """

    def __init__(self, columns: Sequence[str], key: tuple[str, ...]) -> None:
        """Prepare for rows of these columns.

        Args:
            columns: Their names, in order.
            key: Those whose values name a row; if one is not there, there is no key.
        """
        places = {name: at for at, name in enumerate(columns)}
        self._key = [(name, places[name]) for name in key] if places.keys() >= {*key} else []
        self.row_count = 0

    def of(self, row: int, text: Callable[[int], str | None]) -> str:
        """Return the name of a row.

        Args:
            row: Its number among those that are at hand.
            text: Returns its value in the column of a number, None for NULL.
        """
        if not self._key:
            return f"row {self.row_count + row + 1} of the chunk"
        values = ((name, text(at)) for name, at in self._key)
        return ", ".join(f"{name} = {'NULL' if value is None else value}" for name, value in values)
