"""A model's card as text, the most asked-for facts first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from textwrap import TextWrapper
from typing import TYPE_CHECKING, Any

from cellcount.files.text import shown

if TYPE_CHECKING:
    from cellcount.core.records import CellClass
    from cellcount.models.classifier_card import ClassifierCard
    from cellcount.models.detector_card import DetectorCard
    from cellcount.models.weights import WeightFacts

_WIDTH = 96
_LABEL_WIDTH = 20  # of the longest name of a type
#: Told first of any data set, training or evaluation; a card keeps its keys in no order.
_FIRST = ("name", "data", "source", "license", "split", "images", "date")
_PER_FIELD = (
    "per 640x480 field at the model's scale; a multiply-add counts as two, RoIAlign and "
    "suppression as nothing"
)
_PER_CELL = "per cell; a multiply-add counts as two"


def card_text(facts: WeightFacts, operations: str) -> str:
    """The whole card.

    Args:
        facts: of the weight file.
        operations: floating-point operations of a field or a cell, or why they are unknown.
    """
    from cellcount.models.detector_card import DetectorCard

    card = facts.card
    if isinstance(card, DetectorCard):
        finds, per = f"for {_plurals(card.classes)}", _PER_FIELD
        own = [*_counting(card), *_detector(card)]
    else:
        finds, per = f"of {_plurals(card.types)}", _PER_CELL
        own = [*_typing(card), *_classifier(card)]
    cost = f"{operations} {per}" if operations.endswith("FLOP") else operations
    lines = [
        f"{card.name} {card.version}, a {card.task} {finds}",
        "",
        *entry("file", f"{facts.path}"),
        *entry("size", f"{facts.size_bytes / 1e6:.1f} MB"),
        *entry("sha256", facts.sha256),
        *entry("licence", card.license),
        *entry("parameters", f"{facts.parameters:,}"),
        *entry("operations", cost),
        "",
        *own,
        *_section("Training data", (_item(source) for source in card.data)),
        *_section("Training", [_phrase(card.training)] if card.training else []),
        *_section("Test evaluations", (_item(e) for e in card.evaluations)),
        *_section("Notes", card.notes),
    ]
    return "\n".join(shown(line) for line in lines).rstrip()


def _plurals(classes: Iterable[CellClass]) -> str:
    names = [c.plural for c in classes]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _counting(card: DetectorCard) -> Iterator[str]:
    yield "Counting"
    for c in card.classes:
        stated = "" if c.id in card.thresholds else " (not stated by the card)"
        yield from entry(c.id, f"{c.name}, counted from score {card.threshold_of(c.id):g}{stated}")
    yield from entry("scale", f"red cells are brought to {card.rbc_diameter_px:g} px")
    if card.densest_field:
        yield from entry("densest field", f"{card.densest_field} cells seen in training")
    if card.classifier:
        yield from entry("classifier", f"{card.classifier} types its cells unless another is named")
    yield ""


def _detector(card: DetectorCard) -> Iterator[str]:
    model, before, after = card.architecture, card.preprocessing, card.inference
    anchors = "; ".join(", ".join(f"{a:.3g}" for a in level) for level in model.anchor_sizes_px)
    yield "Model"
    yield from entry("backbone", model.backbone + _options(model.backbone_options))
    yield from entry(
        "pyramid",
        f"{model.pyramid}, {model.pyramid_channels} channels, strides "
        f"{', '.join(map(str, model.strides))}",
    )
    yield from entry("anchors", f"{anchors} px; ratios {_numbers(model.anchor_ratios)}")
    yield from entry(
        "box head", f"regions of {model.pool_size}x{model.pool_size}, {model.head_dim} wide"
    )
    balance = "background brought to white, " if before.white_balance else ""
    balance += "red cells brought to one hue, " if before.red_cell_hue else ""
    yield from entry(
        "input",
        f"RGB, {balance}resized {before.interpolation}, mean {_numbers(before.mean)}, "
        f"std {_numbers(before.std)}",
    )
    yield from entry(
        "tiles",
        f"up to {after.tile_px} px, overlapping by {card.tile_margin_px} px, at most "
        f"{after.max_detections} cells each",
    )
    yield ""


def _typing(card: ClassifierCard) -> Iterator[str]:
    yield "Typing"
    for t in card.types:
        share = f", share {card.prior[t.id]:.3g} in its prior" if card.prior else ""
        yield from entry(t.id, f"{t.name}{share}")
    yield from entry("taxonomy", card.taxonomy or "its own")
    yield from entry("cells", f"of the detector's classes {', '.join(card.detector_classes)}")
    yield from entry("unclassified", f"below a probability of {least_probability(card)}")
    yield from entry(
        "calibration",
        f"temperature {card.temperature:.3g}, probabilities "
        f"{'at the prior above' if card.prior else 'as trained'}",
    )
    yield ""


def _classifier(card: ClassifierCard) -> Iterator[str]:
    model, before, crop = card.architecture, card.preprocessing, card.crop
    height, width = before.input_px
    yield "Model"
    scheme = "" if model.scheme == "softmax" else ", one network per type against the rest"
    yield from entry("network", model.name + _options(model.options) + scheme)
    known = f", {crop.rbc_px:g} px in the training pictures" if crop.rbc_px else ""
    window = f"{crop.window_rbc:g} red-cell diameters{known}" if crop.window_rbc else "the picture"
    contour = ", after a crop to the centre-most contour" if crop.contour else ""
    yield from entry("window", window + contour)
    balance = "background brought to white, " if before.white_balance else ""
    yield from entry(
        "input",
        f"RGB, {balance}resized {before.interpolation} to {width}x{height} px, mean "
        f"{_numbers(before.mean)}, std {_numbers(before.std)}",
    )
    yield ""


def _options(options: Mapping[str, Any]) -> str:
    return f" ({_phrase(options)})" if options else ""


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{v:g}" for v in values)


def _section(title: str, entries: Iterable[str]) -> Iterator[str]:
    """A titled list, with "none recorded" where it is empty."""
    yield title
    wrapper = TextWrapper(
        _WIDTH, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False
    )
    for entry in list(entries) or ["none recorded"]:
        yield from wrapper.wrap(entry)
    yield ""


def least_probability(card: ClassifierCard) -> str:
    """Say the least probability at which a cell is counted, and those of types with their own."""
    own: dict[float, list[str]] = {}
    for type_id in (t.id for t in card.types if t.id in card.review_below_of):
        own.setdefault(card.review_below_of[type_id], []).append(type_id)
    words = [f"{prob:g} for {', '.join(ids)}" for prob, ids in own.items()]
    return f"{card.review_below:g}" + (f" ({'; '.join(words)})" if words else "")


def entry(label: str, text: str) -> list[str]:
    """A labelled text, wrapped under itself."""
    start = f"  {label:<{_LABEL_WIDTH}} "
    indent = " " * len(start)
    wrapper = TextWrapper(
        _WIDTH,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.wrap(text) or [start.rstrip()]


def _item(values: Mapping[str, Any]) -> str:
    """One data set or evaluation, its name in front."""
    rest = {key: value for key, value in values.items() if key != "name"}
    return f"{values['name']}: {_phrase(rest)}" if "name" in values else _phrase(rest)


def _phrase(values: Mapping[str, Any]) -> str:
    """A mapping as ``key value, key value``; what is nested follows in brackets."""
    parts = []
    for key in sorted(values, key=lambda k: _FIRST.index(k) if k in _FIRST else len(_FIRST)):
        value, name = values[key], str(key).replace("_", " ")
        if isinstance(value, Mapping):
            parts.append(f"{name} ({_phrase(value)})")
        elif isinstance(value, list | tuple):
            parts.append(f"{name} {' '.join(_value(v) for v in value)}")
        else:
            parts.append(f"{name} {_value(value)}")
    return ", ".join(parts)


def _value(value: Any) -> str:  # noqa: ANN401 -- JSON values are of any type
    if isinstance(value, Mapping):
        return f"({_phrase(value)})"
    if isinstance(value, list | tuple):  # a matrix's row, which ends so
        return " ".join(_value(v) for v in value) + ";"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
