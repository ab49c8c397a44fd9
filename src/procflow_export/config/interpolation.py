"""``${NAME}`` in the string values of a parsed configuration.

Owns the syntax and the order of look-up: a parameter wins over the environment.  Only *parsed* scalars are touched, so a
value can never change the structure of the file.  ``$${`` stands for a literal ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from procflow_export.config.document import Document, KeyPath, path_text
from procflow_export.model.errors import Finding, Severity

_REFERENCE: Final = re.compile(r"\$(\$\{)|\$\{([^}]*)\}|\$\{")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpolated:
    """Values with every reference replaced.

    Attributes:
        root: The values.
        raw: What stood at each path that had a reference, before it was replaced: what findings may show.
        used: What was put in, by the name that was referred to.
        findings: References that could not be replaced, and parameters that nothing refers to.
    """

    root: object
    raw: Mapping[KeyPath, str]
    used: Mapping[str, str]
    findings: tuple[Finding, ...]


def interpolate(document: Document, *, params: Mapping[str, str], environ: Mapping[str, str]) -> Interpolated:
    """Replace every ``${NAME}`` in the strings of ``document`` by the parameter or environment variable ``NAME``."""
    work = _Interpolation(document, params, environ)
    root = work.replace(document.root, ())
    unused = [
        Finding(
            message=f"the parameter {name!r} is not used: no value refers to ${{{name}}}",
            file=document.file,
            severity=Severity.WARNING,
        )
        for name in params
        if name not in work.used
    ]
    return Interpolated(root=root, raw=work.raw, used=work.used, findings=(*work.findings, *unused))


class _Interpolation:
    def __init__(self, document: Document, params: Mapping[str, str], environ: Mapping[str, str]) -> None:
        self._document = document
        self._params = params
        self._environ = environ
        self.raw: dict[KeyPath, str] = {}
        self.used: dict[str, str] = {}
        self.findings: list[Finding] = []

    def replace(self, value: object, path: KeyPath) -> object:
        if isinstance(value, str):
            return self._text(value, path)
        if isinstance(value, dict):
            return {key: self.replace(item, (*path, key)) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replace(item, (*path, index)) for index, item in enumerate(value)]
        return value

    def _text(self, text: str, path: KeyPath) -> str:
        if "${" not in text:
            return text
        self.raw[path] = text
        return _REFERENCE.sub(lambda found: "${" if found[1] else self._look_up(found[2], path), text)

    def _look_up(self, name: str | None, path: KeyPath) -> str:
        if name is None:
            self._find(path, "a reference begins with ${ and has no end", allowed="${NAME}, or $${ for a literal ${")
            return ""
        if not _NAME.fullmatch(name):
            self._find(path, f"${{{name}}} is not a reference", allowed="letters, digits and _ between the braces")
            return ""
        if name in self._params:
            value = self._params[name]
        elif name in self._environ:
            value = self._environ[name]
        else:
            self._find(path, f"${{{name}}} is neither a parameter nor an environment variable")
            return ""
        self.used[name] = value
        if "\0" in value:
            self._find(path, f"the value of ${{{name}}} holds a NUL character")
            return ""
        return value

    def _find(self, path: KeyPath, message: str, *, allowed: str | None = None) -> None:
        self.findings.append(
            Finding(
                message=message,
                key=path_text(path),
                file=self._document.file,
                line=self._document.line(path),
                allowed=allowed,
            )
        )
