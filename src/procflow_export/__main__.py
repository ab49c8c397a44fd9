"""``python -m procflow_export``, and where the script ``procflow-export`` begins."""

from __future__ import annotations

from typing import NoReturn


def main() -> NoReturn:
    """Make this process safe to be one, then do what the command line says; does not return.

    Descriptors and signals come before every other import: those take longer than a hasty Ctrl-C.
    """
    from procflow_export.cli.start import take_over_process

    interrupts = take_over_process()
    from procflow_export.cli.main import main as do_what_was_typed

    do_what_was_typed(interrupts)


if __name__ == "__main__":
    main()
