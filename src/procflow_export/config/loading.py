"""Reading a configuration: from a file or from plain values to a ``LoadedConfig``, or every finding at once.

Owns the order of the steps: syntax, interpolation, shape, rules, paths.  Each step goes on with whatever the one before
could make sense of, so that one run of the program shows all that is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from procflow_export.config.document import Document, is_too_deep, parse_document
from procflow_export.config.interpolation import interpolate
from procflow_export.config.mode_rules import MODE_KEYS
from procflow_export.config.rules import check_across, check_export, check_root
from procflow_export.config.shape import Findings, read_struct
from procflow_export.config.source_rules import Surroundings
from procflow_export.config.structs import Config, ExportConfig, LoadedConfig, Mode
from procflow_export.model.codes import Code
from procflow_export.model.destination import DestinationConfig
from procflow_export.model.errors import ConfigError, Finding, Severity
from procflow_export.model.secrets import named_secrets
from procflow_export.model.settings import Format, SourceConfig

if TYPE_CHECKING:
    from procflow.redaction import Secret

MAX_FILE_BYTES = 4 << 20


def load_config(path: str | Path, *, params: Mapping[str, str], environ: Mapping[str, str]) -> LoadedConfig:
    """Return the configuration in the file at ``path``; the suffix says YAML, JSON or TOML.

    Args:
        path: The file.
        params: Values for ``${NAME}``; they win over the environment.
        environ: The environment, usually ``os.environ``.

    Raises:
        ConfigError: With all findings, if the file cannot be read or anything in it is wrong.
    """
    file = Path(path)
    try:
        absolute = file.absolute()  # a working directory that was deleted has no path
        with file.open("rb") as stream:
            data = stream.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise ValueError(f"larger than {MAX_FILE_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        finding = Finding(message=f"the file cannot be read: {reason}", file=str(path), code=Code.CONFIG_UNREADABLE)
        raise ConfigError([finding], code=Code.CONFIG_UNREADABLE) from exc
    document = parse_document(text, file=str(path), suffix=file.suffix)
    if document.root is None and not document.findings:
        document = Document(root=None, file=str(path), findings=(Finding(message="the file is empty", file=str(path)),))
    loaded = _check(document, absolute.parent, params=params, environ=environ)
    return msgspec.structs.replace(loaded, file=absolute)


def read_config(
    values: Mapping[str, object],
    *,
    base_dir: str | Path = ".",
    params: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Return the configuration in plain values, as a JSON reader would give them.

    Raises:
        ConfigError: With all findings, if anything in it is wrong.
    """
    document = Document(root=dict(values), file="")
    return _check(document, _directory(base_dir), params=params or {}, environ=environ or {})


def check_config(
    config: Config, *, base_dir: str | Path = ".", environ: Mapping[str, str] | None = None
) -> LoadedConfig:
    """Return a configuration that a program built from the structs, checked like one from a file.

    Raises:
        ConfigError: With all findings, if anything in it is wrong.
    """
    findings = Findings(document=Document(root=None, file=""))
    around = Surroundings(base_dir=_directory(base_dir), environ=environ or {})
    check_root(config, findings, around)
    for index, export in enumerate(config.exports):
        check_export(export, ("exports", index), config, findings, around)
    return _finish(config, findings.items, around)


def _directory(path: str | Path) -> Path:
    try:
        return Path(path).absolute()
    except OSError as exc:
        finding = Finding(message=f"the working directory cannot be used: {exc.strerror}", code=Code.CONFIG_UNREADABLE)
        raise ConfigError([finding], code=Code.CONFIG_UNREADABLE) from exc


def _check(
    document: Document, base_dir: Path, *, params: Mapping[str, str], environ: Mapping[str, str]
) -> LoadedConfig:
    if document.root is None:
        raise ConfigError(document.findings, code=Code.CONFIG_UNREADABLE)
    if is_too_deep(document.root):
        finding = Finding(
            message="the values are too large or too deeply nested", file=document.file, code=Code.CONFIG_UNREADABLE
        )
        raise ConfigError([finding], code=Code.CONFIG_UNREADABLE)
    interpolated = interpolate(document, params=params, environ=environ)
    findings = Findings(document=document, raw=interpolated.raw)
    findings.items += [*document.findings, *interpolated.findings]
    around = Surroundings(base_dir=base_dir, environ=environ)
    config = read_struct(Config, interpolated.root, (), findings)
    if config is None:
        _check_what_could_be_read(interpolated.root, findings, around)
        raise ConfigError(_in_order(findings.items))
    check_root(config, findings, around)
    for index, export in enumerate(config.exports):
        check_export(export, ("exports", index), config, findings, around)
    return _finish(config, findings.items, around, used=interpolated.used)


def _check_what_could_be_read(root: object, findings: Findings, around: Surroundings) -> None:
    """Apply the rules to whatever is whole in a broken configuration."""
    if not isinstance(root, Mapping):
        return
    # Findings about shape are there already: what is read again here must not add them twice.
    quiet = Findings(document=findings.document, raw=findings.raw)
    source = read_struct(SourceConfig, root.get("source"), ("source",), quiet, stand_ins={})
    named = root.get("sources")
    sources: dict[str, SourceConfig] = {}
    for name, value in named.items() if isinstance(named, Mapping) else ():
        if one := read_struct(SourceConfig, value, ("sources", name), quiet, stand_ins={}):
            sources[name] = one
    destination = read_struct(DestinationConfig, root.get("destination"), ("destination",), quiet, stand_ins={})
    entries = root.get("exports")
    partial = Config(source=source, sources=sources, destination=destination, exports=[])
    shape = [finding.key for finding in findings.items if finding.severity is Severity.ERROR]
    rules = Findings(document=findings.document, raw=findings.raw)
    check_root(partial, rules, around)
    whole: dict[int, ExportConfig] = {}
    for index, value in enumerate(entries if isinstance(entries, list) else ()):
        path = ("exports", index)
        if export := read_struct(ExportConfig, value, path, quiet, stand_ins=_export_stand_ins(value)):
            check_export(export, path, partial, rules, around)
            # Without its own name or place, nothing is known of those of the others.
            if value.get("name") == export.name and bool(value.get("destination")) == bool(export.destination):
                whole[index] = export
    check_across(whole, partial, rules)
    findings.items += [
        finding
        for finding in rules.items
        if not _follows_from_a_hole(finding, root, sources)
        and not any(key == finding.key or key.startswith((finding.key + ".", finding.key + "[")) for key in shape)
    ]


def _export_stand_ins(value: object) -> dict[str, object]:
    """Return what a broken export probably meant by its required keys, so that no rule complains for nothing."""
    keys = set(value) if isinstance(value, Mapping) else set()
    return {
        "name": "unnamed",
        "mode": next((mode for mode, owned in MODE_KEYS.items() if keys & set(owned)), Mode.FULL),
        "format": Format.CSV if "csv" in keys else Format.PARQUET,
    }


def _follows_from_a_hole(finding: Finding, root: Mapping[object, object], sources: Mapping[str, SourceConfig]) -> bool:
    """Whether a finding may only exist because another part of the file could not be read."""
    if finding.key == "exports":
        return True
    if finding.key in ("source", "sources") and (root.get("source") or root.get("sources")):
        return True
    named = root.get("sources")
    is_partly_read = isinstance(named, Mapping) and len(sources) < len(named)
    if finding.key.endswith("].source") and (is_partly_read or root.get("source")):
        return True
    return finding.key.endswith("].destination") and bool(root.get("destination"))


def _finish(
    config: Config, items: list[Finding], around: Surroundings, *, used: Mapping[str, str] | None = None
) -> LoadedConfig:
    if any(finding.severity is Severity.ERROR for finding in items):
        raise ConfigError(_in_order(items))
    return LoadedConfig(
        secrets=_secrets_in(config, used or {}),
        config=_absolute(config, around.base_dir),
        base_dir=around.base_dir,
        warnings=tuple(str(finding) for finding in _in_order(items)),
    )


def _secrets_in(config: Config, used: Mapping[str, str]) -> frozenset[Secret[str]]:
    parameters = (
        (name, item)
        for export in config.exports
        for name, value in export.parameters.items()
        for item in (value if isinstance(value, tuple) else (value,))
    )
    return named_secrets((*used.items(), *parameters))


def _in_order(items: list[Finding]) -> list[Finding]:
    unique = dict.fromkeys(items)
    return sorted(unique, key=lambda finding: finding.line or 0)


def _absolute(config: Config, base_dir: Path) -> Config:
    """Return the configuration with paths that hold everywhere, and with the text of its query files."""

    def anchored(path: str | None) -> str | None:
        return None if path is None else str(base_dir / path)

    def source(one: SourceConfig) -> SourceConfig:
        tls = one.tls and msgspec.structs.replace(
            one.tls,
            ca_file=anchored(one.tls.ca_file),
            cert_file=anchored(one.tls.cert_file),
            key_file=anchored(one.tls.key_file),
        )
        return msgspec.structs.replace(one, path=anchored(one.path), url_file=anchored(one.url_file), tls=tls)

    def destination(one: DestinationConfig | None) -> DestinationConfig | None:
        return one and msgspec.structs.replace(
            one, path=anchored(one.path), credentials_file=anchored(one.credentials_file)
        )

    def export(one: ExportConfig) -> ExportConfig:
        query = one.query
        if one.query_file is not None:
            query = (base_dir / one.query_file).read_text(encoding="utf-8")
        return msgspec.structs.replace(
            one,
            query=None if query is None else query.strip().rstrip(";").rstrip(),
            query_file=None,
            destination=destination(one.destination),
        )

    return msgspec.structs.replace(
        config,
        source=config.source and source(config.source),
        sources={name: source(one) for name, one in config.sources.items()},
        destination=destination(config.destination),
        exports=[export(one) for one in config.exports],
    )
