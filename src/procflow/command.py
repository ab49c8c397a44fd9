"""What is to be run: a frozen value.

Owns program, arguments and everything else that a child is started with.  Must not know how a process is started.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias, TypedDict, Unpack

from procflow.redaction import Redaction, Secret

PathArgument: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""What names a program or a directory."""

Word: TypeAlias = "str | bytes | Secret[str] | Secret[bytes]"
"""What an argument list holds.  A secret is revealed to the kernel only, and taken out of the record of a run."""

Argument: TypeAlias = "PathArgument | Secret[str] | Secret[bytes]"
"""What may stand in an argument list.  Numbers are not converted: write ``str(n)``."""

Variable: TypeAlias = "str | Secret[str] | None"
"""What an environment variable is set to; ``None`` removes it."""

MAX_UMASK: Final = 0o777

HOST_VARIABLE_PREFIX: Final = b"PROCFLOW_HOST_"
"""How the variables begin by which guards find what their hosts have started.  An environment that is replaced keeps those of the
hosts above: they are not this host's to give up."""

_DEFAULT_REDACTION: Final = Redaction()


class CommandChanges(TypedDict, total=False):
    """What ``Command.with_()`` can change."""

    program: PathArgument
    arguments: Sequence[Argument]
    cwd: PathArgument | None
    env: Mapping[str, Variable]
    inherit_env: bool
    name: str | None
    umask: int | None
    pass_fds: Iterable[int]


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Command:
    """A program, its arguments and its surroundings.  Never a shell: ``shell()`` is the only way to one.

    Attributes:
        program: A path, or a name that is looked up on ``PATH``.
        arguments: Everything after the program.  A ``Secret`` stays one: nothing but the child sees its value.
        cwd: Working directory of the child; ``None``: the host's.
        env: Changes of the environment: a text or a ``Secret`` sets a variable, ``None`` removes it.
        inherit_env: Whether the changes are applied to the host's environment or to an empty one.
        name: What errors, logs and outcomes call the process; by default the last part of ``program``.
            Arguments never appear in a derived name; ``describe()`` makes one that has them.
        umask: File mode creation mask of the child; ``None``: the host's.
        pass_fds: Descriptors, besides 0 to 2, that the child inherits under the same numbers.
    """

    program: str | bytes
    arguments: tuple[Word, ...]
    cwd: str | bytes | None
    env: Mapping[str, Variable] = field(hash=False)
    inherit_env: bool
    name: str
    umask: int | None
    pass_fds: tuple[int, ...]

    def __init__(
        self,
        program: PathArgument,
        *arguments: Argument,
        cwd: PathArgument | None = None,
        env: Mapping[str, Variable] | None = None,
        inherit_env: bool = True,
        name: str | None = None,
        umask: int | None = None,
        pass_fds: Iterable[int] = (),
    ) -> None:
        checked_program = _checked_path(program, "the program")
        if not checked_program:
            raise ValueError("the program must not be empty")
        if umask is not None and not 0 <= umask <= MAX_UMASK:
            raise ValueError(f"umask must be between 0 and 0o777, not {umask:#o}")
        descriptors = tuple(pass_fds)
        if any(descriptor < 0 for descriptor in descriptors):
            raise ValueError("pass_fds must not hold negative numbers")
        set_field = object.__setattr__
        set_field(self, "program", checked_program)
        set_field(self, "arguments", tuple(_checked(text, f"argument {i}") for i, text in enumerate(arguments, 1)))
        set_field(self, "cwd", None if cwd is None else _checked_path(cwd, "cwd"))
        set_field(self, "env", MappingProxyType(_checked_environment(env or {})))
        set_field(self, "inherit_env", inherit_env)
        set_field(self, "name", name if name is not None else _derived_name(checked_program))
        set_field(self, "umask", umask)
        set_field(self, "pass_fds", descriptors)

    def with_(self, **changes: Unpack[CommandChanges]) -> Command:
        """Return a copy with ``changes``.

        ``env`` is laid over the changes that are already there; everything else replaces.  A changed program gets a
        new derived name unless the old name was given explicitly.
        """
        unknown = changes.keys() - CommandChanges.__annotations__.keys()
        if unknown:
            known = ", ".join(CommandChanges.__annotations__)
            raise TypeError(f"with_() cannot change {', '.join(sorted(map(repr, unknown)))}, only {known}")
        program = changes.get("program", self.program)
        has_derived_name = self.name == _derived_name(self.program)
        name = changes.get("name", None if has_derived_name else self.name)
        return Command(
            program,
            *changes.get("arguments", self.arguments),
            cwd=changes.get("cwd", self.cwd),
            env={**self.env, **changes.get("env", {})},
            inherit_env=changes.get("inherit_env", self.inherit_env),
            name=name,
            umask=changes.get("umask", self.umask),
            pass_fds=changes.get("pass_fds", self.pass_fds),
        )

    def describe(
        self,
        *,
        arguments: bool = False,
        environment: bool = False,
        cwd: bool = False,
        redaction: Redaction | None = _DEFAULT_REDACTION,
    ) -> str:
        """Return the command as a line for a shell, with the parts that are asked for and without secrets.

        Only the program is shown unless more is asked for.  The line is for people, such as
        ``cd /srv && env -u PAGER LANG=C git -C repo fetch``; it can be run if nothing was taken out of it.  To have it in
        errors and logs, make it the name: ``command.with_(name=command.describe(arguments=True))``.

        Args:
            arguments: Show the arguments.
            environment: Show the changes of the environment.
            cwd: Show the working directory, if one was given.
            redaction: How secrets are found; ``None`` shows everything.
        """
        program = os.fsdecode(self.program)
        directory = os.fsdecode(self.cwd) if cwd and self.cwd is not None else ""
        shown_arguments = [_shown(argument) for argument in self.arguments] if arguments else []
        variables = {name: str(text) for name, text in self.env.items() if text is not None}
        removed = [name for name, text in self.env.items() if text is None]
        if redaction is not None:
            program, directory = redaction.clean_values(program), redaction.clean_values(directory)
            removed = [redaction.clean_values(name) for name in removed]
            shown_arguments = redaction.clean_arguments(shown_arguments)
            variables = {
                redaction.clean_values(name): redaction.clean_variable(name, text) for name, text in variables.items()
            }
        words: list[str] = []
        if environment:
            unset = [word for name in removed for word in ("-u", name)]
            options = [*([] if self.inherit_env else ["-i"]), *unset]
            words += ["env", *options] if options else []
            words += [f"{name}={shlex.quote(text)}" for name, text in variables.items()]
        words += map(shlex.quote, (program, *shown_arguments))
        place = f"cd {shlex.quote(directory)} && " if directory else ""
        return place + " ".join(words)

    def __or__(self, other: Command | Pipeline) -> Pipeline:
        """Return the pipeline of this command and what its standard output goes to."""
        return _joined(self, other)

    def __reduce__(self) -> tuple[Callable[..., Command], tuple[object, ...]]:
        # A read-only view of a dictionary can be neither pickled nor copied.
        surroundings = (self.cwd, dict(self.env), self.inherit_env, self.name, self.umask, self.pass_fds)
        return _rebuilt_command, (self.program, self.arguments, *surroundings)

    def __repr__(self) -> str:
        return f"<Command {self.name!r} with {len(self.arguments)} arguments>"


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Pipeline:
    """Commands in a row: the standard output of each is the standard input of the next.

    ``a | b | c`` makes one, in whatever order the parts are joined; nothing is started by that.

    Attributes:
        stages: The commands, first to last; at least one.
        name: What errors, logs and outcomes call the whole; by default the names of its stages with bars between them.
            ``|`` makes a new whole, which has a derived name.
    """

    stages: tuple[Command, ...]
    name: str

    def __init__(self, *stages: Command, name: str | None = None) -> None:
        if not stages:
            raise ValueError("a pipeline needs at least one command")
        for stage in stages:
            if not isinstance(stage, Command):
                raise TypeError(f"a pipeline is made of commands, not of {type(stage).__name__}")
        object.__setattr__(self, "stages", stages)
        object.__setattr__(self, "name", name if name is not None else " | ".join(stage.name for stage in stages))

    def __or__(self, other: Command | Pipeline) -> Pipeline:
        """Return the pipeline that goes on with ``other``."""
        return _joined(self, other)

    def __repr__(self) -> str:
        return f"<Pipeline {self.name!r}>"


def _joined(left: Command | Pipeline, right: Command | Pipeline) -> Pipeline:
    if not isinstance(right, (Command, Pipeline)):
        return NotImplemented
    return Pipeline(*stages_of(left), *stages_of(right))


def stages_of(command: Command | Pipeline) -> tuple[Command, ...]:
    """Return the commands of a pipeline; a command alone is a pipeline of one."""
    return command.stages if isinstance(command, Pipeline) else (command,)


def revealed_arguments(command: Command) -> tuple[str | bytes, ...]:
    """Return the arguments as the child gets them."""
    return tuple(word.reveal() if isinstance(word, Secret) else word for word in command.arguments)


def revealed_variables(command: Command) -> dict[str, str | None]:
    """Return the changes of the environment as the child gets them."""
    return {name: text.reveal() if isinstance(text, Secret) else text for name, text in command.env.items()}


def secrets_of(command: Command) -> Iterator[Secret[str] | Secret[bytes]]:
    """Yield the secrets among the arguments and the variables."""
    for value in (*command.arguments, *command.env.values()):
        if isinstance(value, Secret):
            yield value


def shell(
    script: str,
    *,
    cwd: PathArgument | None = None,
    env: Mapping[str, Variable] | None = None,
    inherit_env: bool = True,
    name: str | None = "sh",
    umask: int | None = None,
    pass_fds: Iterable[int] = (),
) -> Command:
    """Return the command ``/bin/sh -c script``: the only door to a shell.

    Never put text from outside into ``script``; pass it through ``env`` and write ``"$NAME"``.
    """
    return Command(
        "/bin/sh", "-c", script, cwd=cwd, env=env, inherit_env=inherit_env, name=name, umask=umask, pass_fds=pass_fds
    )


def child_environment(
    command: Command, host: Mapping[bytes, bytes], additions: Mapping[str, str]
) -> dict[bytes, bytes] | None:
    """Return the environment of the child: the changes of ``command``, then ``additions``, over ``host`` or over nothing.

    ``None`` if that is the host's as it is: to copy it costs a tenth of a spawn.  In bytes, as the kernel has it: to decode
    and encode it again would cost as much once more.
    """
    if command.inherit_env and not command.env and not additions:
        return None
    environment = {
        name: text for name, text in host.items() if command.inherit_env or name.startswith(HOST_VARIABLE_PREFIX)
    }
    for variable, text in (*revealed_variables(command).items(), *additions.items()):
        if text is None:
            environment.pop(os.fsencode(variable), None)
        else:
            environment[os.fsencode(variable)] = os.fsencode(text)
    return environment


def _rebuilt_command(
    program: str | bytes,
    arguments: tuple[Word, ...],
    cwd: str | bytes | None,
    env: dict[str, Variable],
    inherit_env: bool,  # noqa: FBT001 (pickled arguments have no names)
    name: str,
    umask: int | None,
    pass_fds: tuple[int, ...],
) -> Command:
    return Command(
        program, *arguments, cwd=cwd, env=env, inherit_env=inherit_env, name=name, umask=umask, pass_fds=pass_fds
    )


def _checked(argument: Argument, what: str) -> Word:
    if isinstance(argument, Secret):
        _checked_path(argument.reveal(), what)
        return argument
    return _checked_path(argument, what)


def _shown(word: Word) -> str:
    return str(word) if isinstance(word, Secret) else os.fsdecode(word)


def _checked_path(argument: PathArgument, what: str) -> str | bytes:
    # The value itself stays out of the message: arguments may be secrets.
    if not isinstance(argument, (str, bytes, os.PathLike)):
        raise TypeError(f"{what} must be str, bytes or a path, not {type(argument).__name__}")
    text = os.fspath(argument)
    if ("\0" in text) if isinstance(text, str) else (b"\0" in text):
        raise ValueError(f"{what} must not hold a NUL character")
    if isinstance(text, str):
        _require_encodable(text, what)
    return text


def _require_encodable(text: str, what: str) -> None:
    try:
        os.fsencode(text)
    except UnicodeEncodeError as exc:
        reason = f"{exc.reason} at position {exc.start}"
    else:
        return
    # Outside of the handler: the codec's own error shows the value.
    raise ValueError(f"{what} cannot be encoded as {sys.getfilesystemencoding()}: {reason}")


def _checked_environment(env: Mapping[str, Variable]) -> dict[str, Variable]:
    for variable, value in env.items():
        text = value.reveal() if isinstance(value, Secret) else value
        if any(type(part) not in (str, type(None)) for part in (variable, text)):
            raise TypeError("env maps str to str, or to None where a variable is to be removed")
        if not variable or "=" in variable or "\0" in variable:
            raise ValueError(f"{variable!r} cannot be the name of an environment variable")
        if text is not None and "\0" in text:
            raise ValueError(f"the environment variable {variable!r} must not hold a NUL character")
        _require_encodable(variable, f"the name of the environment variable {variable!r}")
        _require_encodable(text or "", f"the environment variable {variable!r}")
    return dict(env)


def _derived_name(program: str | bytes) -> str:
    path = os.fsencode(program)
    # A name is shown, so bytes that are no text are spelled out: they could not be printed.
    return (os.path.basename(path.rstrip(b"/")) or path).decode(errors="backslashreplace")
