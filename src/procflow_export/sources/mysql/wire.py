"""A connection to MySQL whose result rows can be read as raw bytes.

Owns what is done below the driver's public face, all of it: the row parser of the driver makes an object of every cell, and
costs more than everything else together.  The driver still logs in, sends statements and reads column definitions.

Also owns corrections of how the driver logs in: a server without TLS is refused when TLS was asked for; a server that asks
for the password itself gets it over TLS or a socket only; and TLS is negotiated by the loop, which uvloop can do as well.
"""

from __future__ import annotations

import struct
from asyncio import StreamReader, StreamWriter, Transport
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ssl import SSLContext
from typing import Any, Final, cast

import aiomysql.connection
from pymysql.charset import charset_by_name
from pymysql.constants import CLIENT, COMMAND
from pymysql.err import raise_mysql_exception
from pymysql.protocol import FieldDescriptorPacket, MysqlPacket

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError
from procflow_export.sources.byte_streams import ReadsBytes
from procflow_export.sources.mysql.decoding.packets import ERROR_MARK, MORE_RESULTS, FramingError, RowIndex, scan
from procflow_export.sources.mysql.receiving import Receiver
from procflow_export.sources.mysql.server import Server
from procflow_export.sources.mysql.types import WireField
from procflow_export.sources.tls import tls_missing

READ_BYTES: Final = 256 * 1024
QUIT_PACKET: Final = struct.pack("<iB", 1, COMMAND.COM_QUIT)
MAX_PACKET_BYTES: Final = 2**24 - 1


class WireConnection(aiomysql.connection.Connection):  # type: ignore[misc]  # the driver has no types
    """A connection of the driver, with a door to the bytes of a result.

    Attributes:
        server: Who answers; known once the connection was made.
    """

    server: Server
    _reader: StreamReader | None
    _writer: StreamWriter | None
    _result: Any
    _ssl_context: SSLContext | None
    _secure: bool
    _server_auth_plugin: str
    _next_seq_id: int

    async def _request_authentication(self) -> None:
        context = self._ssl_context
        if context is not None:
            if not self.server_capabilities & CLIENT.SSL:
                raise tls_missing()
            assert self._writer is not None
            charset = charset_by_name(self.charset).id
            self.write_packet(struct.pack("<iIB23s", self.client_flag, MAX_PACKET_BYTES, charset, b""))
            await self._writer.drain()
            await self._writer.start_tls(context, server_hostname=self._host)
            # The server is silent until it hears from us.  What is here already came in plain text, from anybody, and would
            # be taken for the answer to our log-in.
            if self._reader is None or self._reader._buffer:  # type: ignore[attr-defined]  # noqa: SLF001
                raise SourceError(Code.SOURCE_TLS_FAILED, "something was sent in plain text before TLS began")
            # From here on the driver's own attempt at TLS must not happen.
            self._ssl_context = None
            self._secure = True
        self._refuse_to_tell_password(self._server_auth_plugin)
        await super()._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: MysqlPacket) -> None:
        self._refuse_to_tell_password(plugin_name.decode("latin-1"))
        await super()._process_auth(plugin_name, auth_packet)

    def _refuse_to_tell_password(self, plugin: str) -> None:
        # Whoever reads along, or answers in the server's place, would only have to ask.
        if plugin == "mysql_clear_password" and not self._secure:
            message = "the server asks for the password in plain text, over a plain connection: set `tls.mode`"
            raise SourceError(Code.SOURCE_TLS_FAILED, message)

    def close(self) -> None:
        """Close the socket now; idempotent.  An orderly end of TLS would wait for a server that may not read."""
        writer, self._writer, self._reader = self._writer, None, None
        if writer is not None:
            writer.transport.abort()

    async def quit(self) -> None:
        """Close an idle connection in order, and return once the server has: it counts its connections itself."""
        writer, reader = self._writer, self._reader
        if writer is None or reader is None:
            return
        writer.write(QUIT_PACKET)
        await writer.drain()
        while await reader.read(READ_BYTES):
            pass
        self.close()

    async def start_rows(
        self, statement: str, *, index: RowIndex | None = None, limit: int | None = None
    ) -> tuple[list[WireField], RowSource]:
        """Send a statement and return its columns and its rows, which are not read yet.

        The connection is busy until the rows are read to their end.

        Args:
            statement: What to run.
            index: Told where rows begin.
            limit: The number of a row to keep; see ``RowSource``.
        """
        await self._execute_command(COMMAND.COM_QUERY, statement)
        return await self._started_rows(index, limit)

    async def _started_rows(self, index: RowIndex | None, limit: int | None) -> tuple[list[WireField], RowSource]:
        await self._read_query_result(unbuffered=True)
        result = self._result
        if result is None or not result.unbuffered_active:
            raise SourceError(Code.SOURCE_QUERY_INVALID, "the statement returns no rows")
        fields = [_field(entry) for entry in result.fields]
        return fields, RowSource(self, index or RowIndex(), limit)

    async def described(self, statement: str) -> list[WireField]:
        """Return the columns of a statement's result without running it.

        Raises:
            SourceError: If it returns no rows.
        """
        prepared, fields = await self._prepare(statement)
        await self._close_prepared(prepared)
        return fields

    @asynccontextmanager
    async def binary_rows(
        self, statement: str, *, index: RowIndex | None = None, limit: int | None = None
    ) -> AsyncIterator[tuple[list[WireField], RowSource]]:
        """Run a statement and give its columns and its rows in binary form, which are not read yet; see ``start_rows()``."""
        prepared, _ = await self._prepare(statement)
        await self._execute_command(COMMAND.COM_STMT_EXECUTE, struct.pack("<IBI", prepared, 0, 1))
        yield await self._started_rows(index, limit)
        if self.is_idle:
            await self._close_prepared(prepared)

    async def _prepare(self, statement: str) -> tuple[int, list[WireField]]:
        await self._execute_command(COMMAND.COM_STMT_PREPARE, statement)
        answer = await self._read_packet()
        prepared, column_count, parameter_count = struct.unpack_from("<xIHH", answer.get_all_data())
        for _ in range(parameter_count + bool(parameter_count)):  # an EOF packet follows
            await self._read_packet()
        fields = [_field(await self._read_packet(FieldDescriptorPacket)) for _ in range(column_count)]
        if column_count:
            await self._read_packet()
        if parameter_count or not column_count:
            await self._close_prepared(prepared)
            reason = "has a parameter without a value" if parameter_count else "returns no rows"
            raise SourceError(Code.SOURCE_QUERY_INVALID, f"the statement {reason}")
        return prepared, fields

    async def _close_prepared(self, prepared: int) -> None:
        # The server does not answer this command.
        await self._execute_command(COMMAND.COM_STMT_CLOSE, struct.pack("<I", prepared))

    def receiver(self) -> Receiver:
        """Return what receives the server's bytes from now on, instead of the driver's reader."""
        if self._reader is None or self._writer is None:
            raise SourceError(Code.SOURCE_CONNECTION_LOST, "the connection to MySQL was closed")
        # What the reader holds belongs to the result; asyncio has no public way to take it without waiting.
        buffer: bytearray = self._reader._buffer  # type: ignore[attr-defined]  # noqa: SLF001
        received = bytes(buffer)
        buffer.clear()
        return Receiver(cast("Transport", self._writer.transport), received)

    @property
    def next_sequence(self) -> int:
        """The number that the next packet must have."""
        return int(self._next_seq_id)

    @property
    def is_idle(self) -> bool:
        """Whether the connection is open and no result is on its way."""
        is_open = self._writer is not None and self._reader is not None and not self._reader.at_eof()
        return is_open and (self._result is None or not self._result.unbuffered_active)

    def end_rows(self, *, status: int) -> None:
        """Note that the rows of the present result were read."""
        result, self._result = self._result, None
        if result is not None:
            result.unbuffered_active = False
            result.connection = None
        self.server_status = status


class RowSource(ReadsBytes):
    """The rows of a result as bytes: whole rows, packet headers included.

    Args:
        connection: On which they come.
        index: Told where the rows begin.
        limit: The number of the row that is kept.

    Attributes:
        index: Where the rows begin in the bytes that were returned.
        limit_row: The row of that number, header included, if there were as many.
    """

    def __init__(self, connection: WireConnection, index: RowIndex, limit: int | None) -> None:
        self._connection = connection
        self._receiver = connection.receiver()
        self._sequence = connection.next_sequence
        self._ending: bytes | None = None
        self.index = index
        self._limit = limit
        self._row_count = 0
        self.limit_row: bytes | None = None
        self.is_finished = False

    async def receive(self) -> bytes:
        """Return the next rows, or nothing at the end.

        Raises:
            pymysql.err.MySQLError: What the server ended the result with.
            SourceError: If the connection was lost.
        """
        receiver = self._receiver
        while self._ending is None:
            if not await receiver.wait():
                raise SourceError(
                    Code.SOURCE_CONNECTION_LOST, "the connection to MySQL was lost in the middle of a result"
                )
            try:
                found = scan(receiver.data, receiver.size, self._sequence)
            except FramingError as exc:
                raise SourceError(Code.SOURCE_CONNECTION_LOST, f"the server's answer cannot be read: {exc}") from exc
            self._sequence = found.next_sequence
            self._ending = found.ending
            self.index.note(found)
            self._row_count += found.row_count
            if rows := receiver.take(found.row_bytes, found.needed_bytes):
                if self._row_count == self._limit:
                    self.limit_row = rows[found.last_start :]
                return rows
        if not self.is_finished:
            self._finish(self._ending)
        return b""

    async def aclose(self) -> None:
        """Nothing to close: the connection belongs to whoever lent it."""

    def _finish(self, ending: bytes) -> None:
        self._receiver.stop()
        if ending[0] == ERROR_MARK:
            # The result is over, but what the connection was doing failed: it is not used again.
            raise_mysql_exception(ending)
        status = int.from_bytes(ending[3:5], "little")
        if status & MORE_RESULTS:
            raise SourceError(Code.SOURCE_QUERY_INVALID, "the statement returns more than one result")
        self._connection.end_rows(status=status)
        self.is_finished = True


def _field(entry: FieldDescriptorPacket) -> WireField:
    return WireField(
        name=entry.name,
        type_code=entry.type_code,
        flags=entry.flags,
        charset=entry.charsetnr,
        length=entry.length,
        decimals=entry.scale,
    )
