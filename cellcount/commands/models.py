"""``cellcount models``: what there is, what it says of itself, and whether it is sound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cellcount.commands import options as shared
from cellcount.commands.wording import number_of, shown

if TYPE_CHECKING:
    from rich.table import Table

#: What a name may stand for besides the name of the entry point itself.
_BACKBONE_NAMES = {"timm": "timm/NAME, any timm model with feature maps"}


@click.command("list")
@shared.plugins
def models_list(plugins: Path | None) -> None:
    """List packaged models and the backbones for a training.

    Listing runs no plugin's code; cellcount models check NAME does.
    """
    from rich.console import Console

    console = Console()
    console.print(_models_table())
    console.print()
    console.print(_backbones_table(plugins))


def _models_table() -> Table:
    from rich.table import Table

    from cellcount.models.facts import facts_of
    from cellcount.models.weights import packaged_weights

    table = Table(title="Packaged models (--detector NAME)", title_justify="left")
    for column in ("name", "version", "classes"):
        table.add_column(column)
    for column in ("red cells", "parameters", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("licence")
    packaged = packaged_weights()
    for name, path in packaged.items():
        facts = facts_of(path)
        card = facts.card
        table.add_row(
            name,
            card.version,
            ", ".join(c.id for c in card.classes),
            f"{card.rbc_diameter_px:g} px",
            f"{facts.parameters / 1e6:.1f} M",
            f"{facts.size_bytes / 1e6:.1f} MB",
            card.license,
        )
    if not packaged:
        table.add_row("none")
    return table


def _backbones_table(folder: Path | None) -> Table:
    from rich.table import Table

    from cellcount.plugins import BACKBONES, available

    table = Table(title="Backbones (train detector --backbone NAME)", title_justify="left")
    table.add_column("name")
    table.add_column("offered by", overflow="fold")
    for name, source in available(BACKBONES, folder).items():
        table.add_row(_BACKBONE_NAMES.get(name, name), source)
    return table


@click.command("show")
@click.argument("model", metavar="NAME|DIR|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON and nothing else.")
@shared.plugins
def models_show(model: str, as_json: bool, plugins: Path | None) -> None:
    """Show a model's card: what it finds, how it was made, how good it is.

    The model is a packaged name, a weight file or the folder of a training run.
    """
    from cellcount.models.weights import read_card, resolve

    path = resolve(model)
    if as_json:
        click.echo(read_card(path).to_json())
        return
    from cellcount.commands.card_text import card_text
    from cellcount.models.facts import facts_of

    facts = facts_of(path)
    click.echo(card_text(facts, _operations(path, plugins)))


def _operations(path: Path, plugins: Path | None) -> str:
    """Floating-point operations of a field, or why they are unknown."""
    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.engines.cost import flops_of, reference_field
    from cellcount.errors import CellcountError

    try:
        engine = load_engine("auto", path, EngineOptions("cpu", "fp32", 1, plugins))
    except CellcountError as error:
        return f"unknown: {error}"
    flops = flops_of(engine, reference_field(engine.card.rbc_diameter_px))
    return f"{flops / 1e9:.1f} GFLOP"


@click.command("check")
@click.argument("name", metavar="NAME|BACKBONE|DIR|FILE")
@shared.plugins
def models_check(name: str, plugins: Path | None) -> int:
    """Check that a model or a backbone keeps its contract.

    Weights are loaded strictly, their card is validated, and they look at an empty and a rendered
    field. A backbone (timm/NAME or a plugin) is built and tried out: shapes, gradients, batches.

    \b
    Exit codes:
      0  sound
      1  problems were found, each is said
      3  there is nothing of that name
    """
    from cellcount.errors import EXIT_OK, EXIT_SOME_FAILED
    from cellcount.testing import check_backbone, check_weights

    if _is_backbone(name, plugins):
        kind, problems = "backbone", check_backbone(name, plugins=plugins)
    else:
        from cellcount.models.weights import resolve

        kind, problems = "model", check_weights(resolve(name), plugins=plugins)
    for problem in problems:
        click.echo(f"problem: {shown(problem)}")
    if problems:
        click.echo(f"{kind} {name}: {number_of(len(problems), 'problem')}")
        return EXIT_SOME_FAILED
    click.echo(f"{kind} {name}: ok")
    return EXIT_OK


def _is_backbone(name: str, plugins: Path | None) -> bool:
    """Whether ``name`` is a backbone's; raises WeightsError where it is nothing at all."""
    from cellcount.errors import WeightsError
    from cellcount.models.weights import packaged_weights
    from cellcount.plugins import BACKBONES, available

    backbones, packaged = available(BACKBONES, plugins), packaged_weights()
    if name in packaged:
        return False
    if name.partition("/")[0] in backbones:
        return True
    if not Path(name).exists():
        raise WeightsError(
            f"there is no model, backbone or file named {name!r}. Packaged models: "
            f"{', '.join(packaged) or 'none'}; backbones: timm/NAME"
            f"{''.join(f', {b}' for b in backbones if b != 'timm')}; "
            "a plugin in a folder needs --plugins FOLDER"
        )
    return False
