"""The command line: one file a verb; the only code that prints or exits."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from compressit import ranks
from compressit.cli import (
    apply,
    batch,
    bench,
    cache,
    catalog,
    check,
    compare,
    doctor,
    init,
    plan,
    predict,
    report,
    schema,
    search,
    several,
    signals,
    validate,
    verify,
)
from compressit.errors import CompressitError, ExitCode

app = typer.Typer(
    name="compressit",
    help="Compress a Hugging Face model through one YAML recipe, and prove it.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("init")(init.init)
app.command("validate")(validate.validate)
app.command("plan")(plan.plan)
app.command("apply")(apply.apply)
app.command("search")(search.search)
app.command("compare")(compare.compare)
app.command("verify")(verify.verify)
app.command("report")(report.report)
app.command("predict")(predict.predict)
app.command("check")(check.check)
app.command("bench")(bench.bench)
app.add_typer(batch.verbs, name="batch")
app.add_typer(cache.verbs, name="cache")
for room in catalog.ROOMS:
    app.add_typer(catalog.verbs(room), name=room)
app.command("schema")(schema.schema)
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        from compressit import __version__

        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Compress a Hugging Face model through one YAML recipe, and prove it."""


def main() -> None:
    """Run a command; every way to end has its exit code."""
    signals.heed()
    _stand_in()
    sys.exit(_command() if ranks.count() == 1 else several.run(_command))


def _command() -> int:
    code: int | None
    try:
        code = app(standalone_mode=False)
    except CompressitError as error:
        from compressit.cli.console import complain

        complain(error)
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except Exception as error:
        if not hasattr(error, "show"):
            raise
        error.show()
        code = getattr(error, "exit_code", ExitCode.RECIPE)
    if code == ExitCode.INTERRUPTED:  # which typer may have made of the interrupt by itself
        sys.stderr.write("interrupted; nothing was published half done. Run the same command again to go on\n")
    return int(code or 0)


def _stand_in() -> None:
    """Open what was closed before the start, so that no file of ours gets its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))
