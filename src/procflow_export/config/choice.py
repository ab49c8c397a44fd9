"""A configuration as a program gives it, in whatever form, and the exports that are wanted of it.

Owns that a misspelt name is said before anything begins.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from procflow_export.config.loading import check_config, load_config
from procflow_export.config.shape import nearest_name
from procflow_export.config.structs import Config, LoadedConfig
from procflow_export.model.errors import MisuseError


def chosen_config(
    config: LoadedConfig | Config | str | Path,
    *,
    exports: Collection[str],
    params: Mapping[str, str],
    environ: Mapping[str, str],
) -> LoadedConfig:
    """Return the checked configuration; blocks while a file is read.

    Raises:
        ConfigError: With everything that is wrong with it.
        MisuseError: If an export is wanted that it has not.
    """
    if isinstance(config, (str, Path)):
        loaded = load_config(config, params=params, environ=environ)
    elif isinstance(config, Config):
        loaded = check_config(config, environ=environ)
    else:
        loaded = config
    names = [export.name for export in loaded.config.exports]
    for wanted in exports:
        if wanted not in names:
            nearest = nearest_name(wanted, names)
            hint = "" if nearest is None else f"; did you mean {nearest!r}?"
            raise MisuseError(f"there is no export {wanted!r} in the configuration{hint}")
    return loaded
