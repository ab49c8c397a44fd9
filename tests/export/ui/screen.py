"""A small terminal for tests: what a person would see after these bytes, resizes with reflow included.

Knows what ``Painter`` uses: CR, LF, cursor up, erase line, erase below, automatic wrap on and off; colours and modes are skipped.
Every character is one cell wide.
"""

from __future__ import annotations

import re

_TOKEN = re.compile(r"\x1b\[(\??)([0-9;]*)([A-Za-z])|(\r)|(\n)|([^\x1b\r\n]+)")


class Screen:
    """Rows of text, each knowing whether it continues the row before (as terminals that reflow do)."""

    def __init__(self, columns: int, lines: int) -> None:
        self.columns = columns
        self.lines = lines
        self.rows: list[str] = [""]
        self.continues: list[bool] = [False]
        self.row = 0
        self.column = 0
        self.wraps = True
        self.has_cursor = True

    @property
    def text(self) -> list[str]:
        """Everything, scrollback included, without trailing blanks."""
        rows = [row.rstrip() for row in self.rows]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def feed(self, data: str) -> None:
        position = 0
        while position < len(data):
            match = _TOKEN.match(data, position)
            assert match is not None, f"unknown sequence {data[position : position + 12]!r}"
            position = match.end()
            private, number, final, cr, lf, text = match.groups()
            if cr:
                self.column = 0
            elif lf:
                self._down()
            elif text:
                self._print(text)
            elif private:
                if number == "7":
                    self.wraps = final == "h"
                elif number == "25":
                    self.has_cursor = final == "h"
            elif final == "A":
                top = max(0, len(self.rows) - self.lines)
                self.row = max(top, self.row - int(number or 1))
            elif final == "K":
                assert number == "2"
                self.rows[self.row] = ""
            elif final == "J":
                assert number in ("", "0")
                del self.rows[self.row + 1 :], self.continues[self.row + 1 :]
                self.rows[self.row] = self.rows[self.row][: self.column]
            else:
                assert final == "m", f"unknown final {final!r}"

    def resize(self, columns: int) -> None:
        """Wrap every row anew, as tmux, kitty and VTE do; the cursor stays on its character."""
        rows: list[str] = []
        continues: list[bool] = []
        cursor = (0, 0)
        for index, row in enumerate(self.rows):
            pieces = [row[start : start + columns] for start in range(0, max(len(row), 1), columns)]
            if index == self.row:
                cursor = (len(rows) + min(self.column // columns, len(pieces) - 1), self.column % columns)
            rows.extend(pieces)
            continues.extend(number > 0 for number in range(len(pieces)))
        self.rows, self.continues, self.columns = rows, continues, columns
        self.row, self.column = cursor

    def _down(self) -> None:
        self.row += 1
        if self.row == len(self.rows):
            self.rows.append("")
            self.continues.append(False)

    def _print(self, text: str) -> None:
        for char in text:
            if self.column >= self.columns:
                if not self.wraps:
                    self.column = self.columns - 1
                else:
                    self._down()
                    self.continues[self.row] = True
                    self.column = 0
            row = self.rows[self.row].ljust(self.column)
            self.rows[self.row] = row[: self.column] + char + row[self.column + 1 :]
            self.column += 1
