"""``cellcount models``: list models and plugins, show their cards, check them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import cloup

from cellcount.commands import options as shared
from cellcount.files.text import number_of, shown

if TYPE_CHECKING:
    from rich.table import Table

    from cellcount.models.weights import WeightFacts

#: What a name may stand for besides the name of the entry point itself.
_TIMM_NAMES = {
    "backbone": "timm/NAME, any timm model with feature maps",
    "classifier": "timm/NAME, any timm model",
}


@cloup.command("list")
@shared.plugins
def models_list(plugins: Path | None) -> None:
    """List packaged models, and the backbones and classifiers for a training.

    Listing runs no plugin's code; cellcount models check NAME does.
    """
    from cellcount.commands.terminal.reports import stdout_console
    from cellcount.models.weights import facts_of, packaged_weights

    packaged = {name: facts_of(path) for name, path in packaged_weights().items()}
    console = stdout_console()
    for table in (
        _detectors_table(packaged),
        _classifiers_table(packaged),
        _offers_table("backbone", "train detector", plugins),
        _offers_table("classifier", "train classifier", plugins),
    ):
        console.print(table)
        console.print()


def _detectors_table(packaged: dict[str, WeightFacts]) -> Table:
    from cellcount.models.detector_card import DetectorCard

    rows = {
        name: (facts, [c.id for c in facts.card.classes], f"{facts.card.rbc_diameter_px:g} px")
        for name, facts in packaged.items()
        if isinstance(facts.card, DetectorCard)
    }
    return _packaged_table("detector", ("classes", "red cells"), rows)


def _classifiers_table(packaged: dict[str, WeightFacts]) -> Table:
    from cellcount.models.classifier_card import ClassifierCard

    rows = {
        name: (facts, [t.id for t in facts.card.types], _window(facts.card.crop.window_rbc))
        for name, facts in packaged.items()
        if isinstance(facts.card, ClassifierCard)
    }
    return _packaged_table("classifier", ("types", "window"), rows)


def _window(red_cells: float) -> str:
    return f"{red_cells:g} red cells" if red_cells else "picture"


def _packaged_table(
    kind: str, columns: tuple[str, str], rows: dict[str, tuple[WeightFacts, list[str], str]]
) -> Table:
    """One row per packaged model: what it finds and at which scale stand in its own columns."""
    from rich.table import Table

    found, scale = columns
    title = f"Packaged {kind}s (--{kind} NAME)"
    table = Table(title=title, title_justify="left", min_width=len(title))
    for column in ("name", "version", found):
        table.add_column(column)
    for column in (scale, "parameters", "size"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("licence")
    for name, (facts, ids, at) in rows.items():
        table.add_row(
            name,
            facts.card.version,
            ", ".join(ids),
            at,
            f"{facts.parameters / 1e6:.1f} M",
            f"{facts.size_bytes / 1e6:.1f} MB",
            facts.card.license,
        )
    if not rows:
        table.add_row("none")
    return table


def _offers_table(kind: str, command: str, folder: Path | None) -> Table:
    from rich.table import Table

    from cellcount.plugins import available

    title = f"{kind.title()}s ({command} --backbone NAME)"
    table = Table(title=title, title_justify="left", min_width=len(title))
    table.add_column("name")
    table.add_column("offered by", overflow="fold")
    for name, source in available(_groups()[kind], folder).items():
        table.add_row(_TIMM_NAMES[kind] if name == "timm" else name, source)
    return table


def _groups() -> dict[str, str]:
    from cellcount.plugins import BACKBONES, CLASSIFIERS

    return {"backbone": BACKBONES, "classifier": CLASSIFIERS}


@cloup.command("show")
@click.argument("model", metavar="NAME|DIR|FILE")
@click.option("--json", "as_json", is_flag=True, help="Print the card as JSON and nothing else.")
@shared.plugins
def models_show(model: str, as_json: bool, plugins: Path | None) -> None:
    """Show a model's card: what it finds, how it was made, how good it is.

    The model is a packaged name, a weight file or the folder of a training run.
    """
    from cellcount.models.weights import read_any_card, resolve

    path = resolve(model)
    if as_json:
        click.echo(read_any_card(path).to_json())
        return
    from cellcount.commands.terminal.card_text import card_text
    from cellcount.models.weights import facts_of

    facts = facts_of(path)
    click.echo(card_text(facts, _operations(path, plugins)))


def _operations(path: Path, plugins: Path | None) -> str:
    """Floating-point operations of a field or a cell, or why they are unknown."""
    from cellcount.engines.base import EngineOptions, load_engine
    from cellcount.errors import CellcountError
    from cellcount.evaluation.cost import flops_of, flops_of_module, reference_field
    from cellcount.models.classifier import build_classifier
    from cellcount.models.detector_card import DetectorCard
    from cellcount.models.weights import read_any_card

    card = read_any_card(path)
    try:
        if isinstance(card, DetectorCard):
            engine = load_engine("auto", path, EngineOptions("cpu", "fp32", 1, plugins))
            flops = flops_of(engine, reference_field(card.rbc_diameter_px))
        else:
            network = build_classifier(card, plugins)
            flops = flops_of_module(network, card.preprocessing.input_px)
    except CellcountError as error:
        return f"unknown: {error}"
    return f"{flops / 1e9:.1f} GFLOP" if flops >= 1e9 else f"{flops / 1e6:.0f} MFLOP"


@cloup.command("check")
@click.argument("name", metavar="NAME|BACKBONE|CLASSIFIER|DIR|FILE")
@click.option(
    "--as",
    "as_kind",
    type=click.Choice(["backbone", "classifier"]),
    help="Check a name as this alone; else as whatever it is offered as.",
)
@shared.plugins
def models_check(name: str, as_kind: str | None, plugins: Path | None) -> int:
    """Check that a model, a backbone or a classifier keeps its contract.

    Weights are loaded strictly, their card is validated, and they are tried on fields or cells
    that we know. A backbone or classifier (timm/NAME or a plugin) is built and tried out: shapes,
    gradients, batches.

    \b
    Exit codes:
      0  sound
      1  problems were found, each is said
      3  there is nothing of that name
    """
    from cellcount.errors import EXIT_OK, EXIT_SOME_FAILED
    from cellcount.testing import check_backbone, check_classifier, check_weights

    found: dict[str, list[str]] = {}
    for kind in [as_kind] if as_kind else _offered_as(name, plugins):
        check = check_backbone if kind == "backbone" else check_classifier
        found[kind] = check(name, plugins=plugins)
    if not found:
        from cellcount.models.weights import resolve

        found["model"] = check_weights(resolve(name), plugins=plugins)
    for kind, problems in found.items():
        for problem in problems:
            click.echo(f"problem: {shown(problem)}")
        click.echo(f"{kind} {name}: {number_of(len(problems), 'problem') if problems else 'ok'}")
    return EXIT_SOME_FAILED if any(found.values()) else EXIT_OK


def _offered_as(name: str, plugins: Path | None) -> list[str]:
    """Return the kinds of plugin that have this name; none for the name of a model.

    Raises:
        WeightsError: it is nothing at all.
    """
    from cellcount.errors import WeightsError
    from cellcount.models.weights import packaged_weights
    from cellcount.plugins import available

    packaged = packaged_weights()
    offers = {kind: available(group, plugins) for kind, group in _groups().items()}
    if name in packaged:
        return []
    kinds = [kind for kind, names in offers.items() if name.partition("/")[0] in names]
    if not kinds and not Path(name).exists():
        known = sorted({n for names in offers.values() for n in names} - {"timm"})
        raise WeightsError(
            f"there is no model, backbone, classifier or file named {name!r}. Packaged models: "
            f"{', '.join(packaged) or 'none'}; backbones and classifiers: "
            f"{', '.join(['timm/NAME', *known])}; a plugin in a folder needs --plugins FOLDER"
        )
    return kinds
