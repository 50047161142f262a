"""``cellcount doctor``: versions, devices and extras of this installation, and a test count."""

from __future__ import annotations

import click
import cloup

_COLORS = {"ok": "green", "note": "yellow", "problem": "red"}


@cloup.command()
def doctor() -> int:
    """Check this installation, and count fields with known cells.

    Looks at versions, devices, threads and optional packages, verifies the packaged weights by
    their hashes, and counts the sample fields, or a rendered one where these are not beside the
    program. Says what to install for what is missing.

    \b
    Exit codes:
      0    in working order
      1    something is to be mended; it is said how
    """
    from cellcount.errors import EXIT_OK, EXIT_SOME_FAILED
    from cellcount.testing.doctor import examine

    problems = 0
    for finding in examine():
        problems += finding.state == "problem"
        label = click.style(f"{finding.state:<8}", fg=_COLORS[finding.state])
        click.echo(f"{label} {finding.text}")
        if finding.advice:
            click.echo(f"{'':<8} {finding.advice}")
    if problems:
        click.echo(f"{problems} to be mended")
        return EXIT_SOME_FAILED
    click.echo("in working order")
    return EXIT_OK
