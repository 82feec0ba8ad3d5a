"""The ``gencv-fast`` command."""

from __future__ import annotations

from typing import Annotated

import typer

from .bench import bench
from .doctor import doctor
from .export import export
from .inspect import inspect

app = typer.Typer(
    name="gencv-fast",
    help="What of gencv_fast runs here, how fast it is, what its GPU machine code says; and models as ONNX.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(doctor)
app.command()(bench)
app.command()(inspect)
app.command()(export)


def _print_version(wanted: bool) -> None:
    if wanted:
        from .. import __version__

        typer.echo(f"gencv_fast {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop."),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: an error is one sentence on standard error and exit code 1."""
    try:
        app()
    except (RuntimeError, OSError, ImportError) as error:
        typer.secho(f"Error: {error}", err=True, fg="red")
        raise SystemExit(1) from None
