"""How to reach a source, how to write a format: the settings that travel with a work unit (where its parts go: ``destination``).

Owns the structs that are both written in the configuration file (see ``config.structs``) and sent to a worker.
Must not know files, environment variables or connections: secrets by reference are resolved by whoever connects.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final, TypeAlias

import msgspec

from procflow_export.model.masks import masked_repr

Positive: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
NotNegative: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Days: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=36_525)]
"""A century at the most: every day is a chunk, and dates begin with the year 1."""
Port: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=65_535)]

DEFAULT_MEMORY_MB: Final = 256
MIN_MEMORY_MB: Final = 128
_MIB: Final = 1 << 20
AUTO_ROW_GROUP_BYTES: Final = 32 * _MIB
"""The most bytes of cells in a row group where nothing else is asked for; with the default budget it is 15 MiB.

Pending rows are the largest thing that an export keeps in memory, once as rows and once as encoded pages.
"""


class SourceType(StrEnum):
    """Which database engine a source is."""

    POSTGRES = "postgres"
    MYSQL = "mysql"
    """MySQL and MariaDB."""
    SQLITE = "sqlite"


class TlsMode(StrEnum):
    """How much of the server's identity is proven before a password is sent."""

    DISABLE = "disable"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Transport security of one source.

    Attributes:
        mode: What is checked; a remote host gets ``verify-full`` unless this says otherwise.
        ca_file: PEM file of the authorities to trust instead of the system's.
        cert_file: PEM file of the certificate that is shown when the server asks for one.
        key_file: PEM file of its key, which has no passphrase; by default it stands with the certificate.
    """

    mode: TlsMode = TlsMode.VERIFY_FULL
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None


class TuningProfile(StrEnum):
    """How hard the source may be worked."""

    FAST = "fast"
    BALANCED = "balanced"
    SAFE = "safe"


class Environment(StrEnum):
    """What a server is for; it chooses the default tuning profile."""

    LOCAL = "local"
    REPLICA = "replica"
    PRODUCTION = "production"


class BatchPolicy(StrEnum):
    """What happens when a batch is larger than ``max_batch_memory_mb``."""

    WARN = "warn"
    """The export goes on and says so."""
    FAIL = "fail"
    AUTO_SHRINK = "auto_shrink"
    """Batches are made small enough from the beginning, and one that is not is cut."""


class Consistency(StrEnum):
    """What the parts of one export have in common."""

    SNAPSHOT = "snapshot"
    """All parts show one state of the database."""
    CHUNK = "chunk"
    """Every chunk shows one state, and chunks may differ in time."""


class ReadLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one chunk reader may do to its source; every value is decided.

    Attributes:
        batch_rows: Upper bound of rows in a batch.
        batch_bytes: Decoded bytes that a batch should stay under.
        throttle_ms: Pause after a full batch; a smaller batch pauses in proportion.
        statement_timeout_s: Limit of one statement; 0 is none.
        lock_timeout_s: Limit of waiting for a lock; 0 is none.
        max_retries: How often a work unit is tried again after a transient failure.
        retry_backoff_ms: First back-off; it doubles with every attempt, up to 60 s.
        memory_threshold_bytes: Resident size above which a process begins no further chunk beside others; 0 is none.
        max_value_bytes: Largest value; 0 is none.
        max_batch_bytes: Decoded bytes above which a batch is one too large; 0 is none.
        on_batch_exceeded: What happens to such a batch.
        max_connections: Connections to the source at once, over all processes of a run; 0 is no limit.
    """

    batch_rows: int
    batch_bytes: int
    throttle_ms: int
    statement_timeout_s: int
    lock_timeout_s: int
    max_retries: int
    retry_backoff_ms: int
    memory_threshold_bytes: int
    max_connections: int
    max_value_bytes: int = 256 * _MIB
    max_batch_bytes: int = 0
    on_batch_exceeded: BatchPolicy = BatchPolicy.WARN


_PROFILES: Final = {
    TuningProfile.FAST: ReadLimits(
        batch_rows=150_000,
        batch_bytes=4 * _MIB,
        throttle_ms=0,
        statement_timeout_s=0,
        lock_timeout_s=0,
        max_retries=1,
        retry_backoff_ms=1_000,
        memory_threshold_bytes=0,
        max_connections=0,
    ),
    TuningProfile.BALANCED: ReadLimits(
        batch_rows=150_000,
        batch_bytes=2 * _MIB,
        throttle_ms=0,
        statement_timeout_s=300,
        lock_timeout_s=30,
        max_retries=3,
        retry_backoff_ms=2_000,
        memory_threshold_bytes=4_096 * _MIB,
        max_connections=32,
    ),
    TuningProfile.SAFE: ReadLimits(
        batch_rows=2_000,
        batch_bytes=1 * _MIB,
        throttle_ms=500,
        statement_timeout_s=120,
        lock_timeout_s=10,
        max_retries=10,
        retry_backoff_ms=5_000,
        memory_threshold_bytes=2_048 * _MIB,
        max_connections=4,
    ),
}


class Tuning(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Limits as an operator writes them: a profile, and single values that replace the profile's.

    Attributes:
        profile: The values that hold where nothing else is said; without one, those of ``balanced``.
        batch_size: Rows in a batch, at most; not together with ``batch_size_memory_mb``.
        batch_size_memory_mb: Decoded size that a batch aims at.
        throttle_ms: Pause after a full batch; a smaller batch pauses in proportion.
        statement_timeout_s: Limit of one statement; 0 is none.
        lock_timeout_s: Limit of waiting for a lock; 0 is none.
        max_retries: How often a work unit is tried again after a transient failure.
        retry_backoff_ms: First back-off; it doubles with every attempt, up to 60 s.
        memory_threshold_mb: Resident size of a process above which it begins no chunk while another one is being read;
            0 is none.
        max_value_mb: Largest value of a column; a larger one is an error that names column and row; 0 is none.
        max_batch_memory_mb: Decoded size above which ``on_batch_memory_exceeded`` says what happens.
        on_batch_memory_exceeded: Whether a larger batch is told of (the default), fails the export, or is avoided.
        max_connections: Connections to the source at once, over all processes of a run, those that hold snapshots
            included; 0 is no limit.  Of several exports of one source, the lowest counts.
    """

    profile: TuningProfile | None = None
    batch_size: Positive | None = None
    batch_size_memory_mb: Positive | None = None
    throttle_ms: NotNegative | None = None
    statement_timeout_s: NotNegative | None = None
    lock_timeout_s: NotNegative | None = None
    max_retries: NotNegative | None = None
    retry_backoff_ms: NotNegative | None = None
    memory_threshold_mb: NotNegative | None = None
    max_value_mb: NotNegative | None = None
    max_batch_memory_mb: Positive | None = None
    on_batch_memory_exceeded: BatchPolicy | None = None
    max_connections: NotNegative | None = None

    def merged_over(self, base: Tuning) -> Tuning:
        """Return these values, with those of ``base`` where this one is silent."""
        own = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        if self.batch_size is not None or self.batch_size_memory_mb is not None:
            base = msgspec.structs.replace(base, batch_size=None, batch_size_memory_mb=None)
        return msgspec.structs.replace(base, **own)

    def limits(self) -> ReadLimits:
        """Return every limit with its value, the profile's where nothing else was said."""
        base = _PROFILES[self.profile or TuningProfile.BALANCED]
        batch_bytes = _bytes(self.batch_size_memory_mb, base.batch_bytes)
        max_batch_bytes = _bytes(self.max_batch_memory_mb, base.max_batch_bytes)
        policy = self.on_batch_memory_exceeded or base.on_batch_exceeded
        if max_batch_bytes and policy is BatchPolicy.AUTO_SHRINK:
            batch_bytes = min(batch_bytes, max_batch_bytes)
        return ReadLimits(
            batch_rows=_first(self.batch_size, base.batch_rows),
            batch_bytes=batch_bytes,
            throttle_ms=_first(self.throttle_ms, base.throttle_ms),
            statement_timeout_s=_first(self.statement_timeout_s, base.statement_timeout_s),
            lock_timeout_s=_first(self.lock_timeout_s, base.lock_timeout_s),
            max_retries=_first(self.max_retries, base.max_retries),
            retry_backoff_ms=_first(self.retry_backoff_ms, base.retry_backoff_ms),
            memory_threshold_bytes=_bytes(self.memory_threshold_mb, base.memory_threshold_bytes),
            max_value_bytes=_bytes(self.max_value_mb, base.max_value_bytes),
            max_batch_bytes=max_batch_bytes,
            on_batch_exceeded=policy,
            max_connections=_first(self.max_connections, base.max_connections),
        )


class SourceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How to reach one database.  Its ``repr`` shows no secret.

    Attributes:
        type: The engine.
        url: Connection URL, password included.
        url_env: Name of the environment variable that holds the URL.
        url_file: File whose first line is the URL.
        host: Server name or address, or the directory of a PostgreSQL socket.
        port: TCP port; the engine's own by default.
        user: Role to log in as.
        password: Password in clear; better use ``password_env``.
        password_env: Name of the environment variable that holds the password.
        database: Database to connect to.
        path: File of a SQLite database; a relative path starts at the configuration file.
        environment: What the server is for: on a ``local`` one the default profile is ``fast``, else ``balanced``.
        tls: Transport security; without it a remote host gets ``verify-full`` and loopback may be plain.
        tuning: Limits of every reader of this source.
    """

    type: SourceType
    url: str | None = None
    url_env: str | None = None
    url_file: str | None = None
    host: str | None = None
    port: Port | None = None
    user: str | None = None
    password: str | None = None
    password_env: str | None = None
    database: str | None = None
    path: str | None = None
    environment: Environment | None = None
    tls: TlsConfig | None = None
    tuning: Tuning = Tuning()

    def __repr__(self) -> str:
        return masked_repr(self, "url", "password")


class Format(StrEnum):
    """What a part is written as."""

    PARQUET = "parquet"
    CSV = "csv"


class Compression(StrEnum):
    """Codec of a part: Parquet pages, or the whole CSV file (``none``, ``gzip``, ``zstd``)."""

    ZSTD = "zstd"
    SNAPPY = "snappy"
    GZIP = "gzip"
    LZ4 = "lz4"
    NONE = "none"


class RowGroupStrategy(StrEnum):
    """What decides where a Parquet row group ends."""

    AUTO = "auto"
    FIXED_ROWS = "fixed_rows"
    FIXED_MEMORY = "fixed_memory"


class ParquetOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What only Parquet parts know.

    Attributes:
        row_group_strategy: What decides where a row group ends; ``fixed_rows`` needs ``row_group_rows``.
        row_group_rows: Rows in a row group.
        target_row_group_mb: Decoded size that a row group aims at.
        max_row_group_mb: Decoded size that a row group never exceeds.
        statistics: Whether minimum, maximum and null count of every column are written, by which readers skip row groups.
    """

    row_group_strategy: RowGroupStrategy = RowGroupStrategy.AUTO
    row_group_rows: Positive | None = None
    target_row_group_mb: Positive = 128
    max_row_group_mb: Positive | None = None
    statistics: bool = True


class CsvQuoting(StrEnum):
    """Which CSV fields stand in quotes."""

    NEEDED = "needed"
    ALL = "all"


class CsvFloats(StrEnum):
    """How a floating-point number stands in a CSV file."""

    FULL = "full"
    """All its digits, never an exponent: ``1e300`` has 301 of them."""
    SHORTEST = "shortest"
    """The shortest text that reads back equal, with an exponent where that is shorter."""


class CsvOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What only CSV parts know.

    Attributes:
        delimiter: One character between two fields.
        null_text: Text of NULL, never quoted; an empty text value is always quoted, so that the two differ.
        quoting: Which fields stand in quotes.
        header: Whether the first line names the columns.
        floats: How floating-point numbers are written.
    """

    delimiter: str = ","
    null_text: str = ""
    quoting: CsvQuoting = CsvQuoting.NEEDED
    header: bool = True
    floats: CsvFloats = CsvFloats.FULL


class FormatOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Everything an encoder needs; every value is decided.

    Attributes:
        format: Parquet or CSV.
        compression: The codec.
        compression_level: Level of ``zstd`` (1 to 22) or ``gzip`` (0 to 9); None is the codec's default.
        max_file_bytes: Size at which a chunk continues in a further part; None never splits.
        parquet: Options of Parquet parts.
        csv: Options of CSV parts.
    """

    format: Format
    compression: Compression = Compression.ZSTD
    compression_level: int | None = None
    max_file_bytes: int | None = None
    parquet: ParquetOptions = ParquetOptions()
    csv: CsvOptions = CsvOptions()


def _bytes(megabytes: int | None, default: int) -> int:
    return default if megabytes is None else megabytes * _MIB


def _first(value: int | None, default: int) -> int:
    return default if value is None else value
