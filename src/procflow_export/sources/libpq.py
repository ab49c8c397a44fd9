"""The files that PostgreSQL's own clients look into: services and passwords.

Owns their syntax, and that only files which the environment names are read.  Must not know what wins over what.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from procflow_export.model.codes import Code
from procflow_export.model.errors import SourceError

# https://www.postgresql.org/docs/current/libpq-envars.html
_VARIABLES: Final = {
    "host": "PGHOST",
    "port": "PGPORT",
    "user": "PGUSER",
    "password": "PGPASSWORD",
    "passfile": "PGPASSFILE",
    "dbname": "PGDATABASE",
    "sslmode": "PGSSLMODE",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
}
_PASSWORD_LINE: Final = re.compile(r"((?:\\.|[^:\\])*):" * 4 + "(.*)")
_ESCAPED: Final = re.compile(r"\\(.)")


def with_service(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment in which the service of ``PGSERVICE`` stands as variables, which it wins over.

    Raises:
        SourceError: If there is no such file or no such service.
    """
    name = environ.get("PGSERVICE")
    if not name:
        return environ
    file = environ.get("PGSERVICEFILE") or str(Path(environ.get("HOME", "")) / ".pg_service.conf")
    services = configparser.RawConfigParser(delimiters=("=",), comment_prefixes=("#",), strict=False)
    try:
        services.read_string(Path(file).read_text(encoding="utf-8"))
        values = services[name]
    except (OSError, ValueError, KeyError, configparser.Error) as exc:
        raise SourceError(
            Code.CONFIG_INVALID, f"the service {name!r} (PGSERVICE) is not in {file}, or the file cannot be read"
        ) from exc
    return {**environ, **{_VARIABLES[key]: value for key, value in values.items() if key in _VARIABLES}}


def password_in_file(file: str, *, host: str, port: int, database: str, user: str) -> str | None:
    """Return the password that a file of passwords (``PGPASSFILE``) has for a login; ``None`` if it has none, or is none.

    Its lines are ``host:port:database:user:password``; ``*`` is anything, and a backslash takes the meaning from what follows.
    """
    try:
        lines = Path(file).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    wanted = ("localhost" if host.startswith("/") else host, str(port), database, user)
    for line in lines:
        found = None if line.startswith("#") else _PASSWORD_LINE.fullmatch(line)
        if found is None:
            continue
        *fields, password = (_ESCAPED.sub(r"\1", field) for field in found.groups())
        if all(field in ("*", value) for field, value in zip(fields, wanted, strict=True)):
            return password
    return None
