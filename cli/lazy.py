"""A group of commands whose modules are imported only when used, so that ``--help`` answers at once."""

from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperGroup


def lazy_group(commands: Mapping[str, str], load: Callable[[str], typer.Typer]) -> type[TyperGroup]:
    """Return a group class for ``typer.Typer(cls=..., rich_markup_mode=None)``.

    Args:
        commands: name -> one line of help, in the order shown.
        load: imports a command's module and returns its app.
    """

    class LazyGroup(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(commands)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in commands:
                return None
            command = typer.main.get_command(load(cmd_name))
            command.name = cmd_name
            return command

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            with formatter.section("Commands"):
                formatter.write_dl(list(commands.items()))

    return LazyGroup
