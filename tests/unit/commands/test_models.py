"""``cellcount models`` as a person uses it, on real weight files and plugins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cellcount import cli
from cellcount.engines.torchvision import FasterRCNN
from cellcount.models.detector_card import DetectorCard
from cellcount.models.weights import (
    facts_of,
    packaged_weights,
    read_any_card,
    read_card,
    read_classifier_card,
    read_classifier_weights,
    read_weights,
    write_weights,
)
from cellcount.testing import check_weights

Run = Callable[..., tuple[int, str, str]]
Change = Callable[[dict[str, Tensor]], object]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command line; returns exit code, output and errors."""
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> tuple[int, str, str]:
        code = cli.main([str(a) for a in arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def sound(tiny_weights: Path, tmp_path: Path) -> Path:
    """The tiny model, made to count nothing, so that its check has nothing to say."""
    return changed(
        tiny_weights,
        tmp_path / "sound.safetensors",
        thresholds={"rbc": 1.0, "wbc": 1.0, "platelet": 1.0},
        data=({"name": "a set", "license": "MIT", "images": 3},),
    )


def changed(source: Path, target: Path, change: Change | None = None, **card: object) -> Path:
    """A copy of a weight file with values of its card, or its tensors, replaced."""
    old, tensors = read_weights(source)
    if change is not None:
        change(tensors)
    write_weights(target, dataclasses.replace(old, **card), tensors)  # type: ignore[arg-type]
    return target


def test_list_shows_models_and_backbones_without_running_them(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("1 / 0\ndef build_backbone(**options): ...\n")
    (tmp_path / "typer.py").write_text("1 / 0\ndef build_classifier(num_classes): ...\n")
    code, out, _ = run("models", "list", "--plugins", tmp_path)
    assert code == 0
    assert out.count("timm/NAME") == 2
    backbones, classifiers = out[out.index("Backbones") :].split("Classifiers")
    assert "mine" in backbones
    assert "typer" in classifiers
    for name, path in packaged_weights().items():
        (line,) = (row for row in out.splitlines() if row.startswith(f"│ {name} "))
        assert f"{path.stat().st_size / 1e6:.1f} MB" in line
        assert read_any_card(path).license in line


def test_facts_are_those_of_the_loaded_model(tiny_weights: Path) -> None:
    facts = facts_of(tiny_weights)
    model = FasterRCNN(read_card(tiny_weights))
    assert facts.parameters == sum(p.numel() for p in model.parameters())
    assert facts.size_bytes == len(tiny_weights.read_bytes())
    assert facts.sha256 == hashlib.sha256(tiny_weights.read_bytes()).hexdigest()


def test_show_tells_everything_of_the_card(run: Run, tiny_weights: Path, tmp_path: Path) -> None:
    weights = changed(
        tiny_weights,
        tmp_path / "told.safetensors",
        thresholds={"rbc": 0.42},
        data=({"name": "Set One", "license": "CC BY 4.0", "images": 17},),
        evaluations=(
            {"data": "Set Two", "split": "test", "ap50": 0.91234, "counts": {"rbc": 2}},
            {"data": "Set Three", "confusion": [[5, 1], [0, 6]]},
        ),
        training={"epochs": 5, "lr": 0.001},
        notes=("Does not type white cells.",),
        densest_field=321,
    )
    code, out, _ = run("models", "show", weights)
    assert code == 0
    for told in (
        "tiny-random 1, a detector for red cells, white cells and platelets",
        str(weights),
        hashlib.sha256(weights.read_bytes()).hexdigest(),
        f"{facts_of(weights).parameters:,}",
        "red cell, counted from score 0.42\n",
        "white cell, counted from score 0.5 (not stated by the card)",
        "red cells are brought to 24 px",
        "321 cells",
        "timm/test_resnet",
        "Set One: license CC BY 4.0, images 17\n",
        "data Set Two, split test, ap50 0.9123, counts (rbc 2)\n",
        "data Set Three, confusion 5 1; 0 6;\n",
        "epochs 5, lr 0.001",
        "Does not type white cells.",
    ):
        assert told in out
    assert max(map(len, out.splitlines())) <= max(96, 23 + len(str(weights)))


def test_show_as_json_is_the_card_itself(run: Run, tiny_weights: Path) -> None:
    code, out, _ = run("models", "show", tiny_weights, "--json")
    assert code == 0
    assert DetectorCard.from_json(out) == read_card(tiny_weights)
    assert json.loads(out)["rbc_diameter_px"] == 24.0


def test_show_takes_a_run_folder_and_refuses_pickles(run: Run, sound: Path) -> None:
    assert run("models", "show", sound.parent)[0] == 0
    pickle = sound.with_suffix(".pt")
    pickle.write_bytes(b"\x80\x04.")
    code, _, error = run("models", "show", pickle)
    assert code == 2
    assert "pickle" in error


def test_show_keeps_control_characters_from_the_terminal(
    run: Run, tiny_weights: Path, tmp_path: Path
) -> None:
    weights = changed(tiny_weights, tmp_path / "w.safetensors", notes=("red \x1b[31malert",))
    assert "\x1b" not in run("models", "show", weights)[1]


def test_a_card_of_a_missing_plugin_is_shown_all_the_same(
    run: Run, tiny_weights: Path, tmp_path: Path
) -> None:
    card = read_card(tiny_weights)
    architecture = dataclasses.replace(card.architecture, backbone="gone")
    weights = changed(tiny_weights, tmp_path / "w.safetensors", architecture=architecture)
    code, out, _ = run("models", "show", weights)
    assert code == 0
    assert "unknown: no backbone 'gone'" in " ".join(out.split())


def test_check_says_ok_of_sound_weights(run: Run, sound: Path) -> None:
    assert run("models", "check", sound) == (0, f"model {sound}: ok\n", "")


def fill(name: str, value: float) -> Change:
    return lambda tensors: tensors[name].fill_(value)


@pytest.mark.parametrize(
    ("change", "card", "expected"),
    [
        (lambda t: t.pop("rpn.head.cls_logits.bias"), {}, '"missing": ["rpn.head.cls_logits.bias"'),
        (lambda t: t.update(odd=torch.zeros(2)), {}, '"unexpected": ["odd"]'),
        (
            fill("rpn.head.cls_logits.bias", torch.nan),
            {},
            "tensor rpn.head.cls_logits.bias holds values that are not finite",
        ),
        (None, {"thresholds": {"rbc": 1.0}}, "states no threshold for wbc, platelet"),
        (None, {"data": ()}, "names no training data"),
        (None, {"thresholds": dict.fromkeys(("rbc", "wbc", "platelet"), 0.01)}, "empty field"),
    ],
    ids=["missing", "unexpected", "not finite", "threshold", "data", "empty field"],
)
def test_check_says_each_problem(
    run: Run, sound: Path, change: Change | None, card: dict[str, object], expected: str
) -> None:
    weights = changed(sound, sound.with_name("bad.safetensors"), change, **card)
    code, out, _ = run("models", "check", weights)
    assert code == 1
    assert expected in out
    assert out.rstrip().splitlines()[-1].startswith(f"model {weights}: ")


def test_check_of_a_truncated_file_is_a_problem(run: Run, sound: Path) -> None:
    sound.write_bytes(sound.read_bytes()[:-100])
    code, out, _ = run("models", "check", sound)
    assert code == 1
    assert "cannot be read as safetensors" in out


def test_check_of_backbones(run: Run, tmp_path: Path) -> None:
    said = "backbone timm/test_resnet: ok\n"
    assert run("models", "check", "timm/test_resnet", "--as", "backbone") == (0, said, "")
    (tmp_path / "mine.py").write_text("def build_backbone(**options): return 7\n")
    code, out, _ = run("models", "check", "mine", "--plugins", tmp_path)
    assert code == 1
    assert "problem: it is a int, expected a torch.nn.Module" in out
    assert "backbone mine: 1 problem\n" in out


def test_show_tells_everything_of_a_classifiers_card(
    run: Run, tiny_classifier: Path, tmp_path: Path
) -> None:
    card, tensors = read_classifier_weights(tiny_classifier)
    weights = tmp_path / "told.safetensors"
    prior = {"neutrophil": 0.6, "lymphocyte": 0.3, "ig": 0.02, "erythroblast": 0.08}
    told = dataclasses.replace(
        card,
        prior=prior,
        review_below=0.55,
        review_below_of={"ig": 0.9, "erythroblast": 0.9},
        notes=("Knows no blasts.",),
    )
    write_weights(weights, told, tensors)
    code, out, _ = run("models", "show", weights)
    assert code == 0
    for part in (
        "tiny-types 1, a classifier of neutrophils, lymphocytes, immature granulocytes and eryth",
        f"{facts_of(weights).parameters:,}",
        "MFLOP per cell",
        "immature granulocyte, share 0.02 in its prior",
        "pbc-8",
        "of the detector's classes wbc",
        "below a probability of 0.55 (0.9 for ig, erythroblast)",
        "temperature 1.5, probabilities at the prior above",
        "timm/test_resnet (input px 32 32)",
        "3 red-cell diameters, 20 px in the training pictures",
        "background brought to white, resized bilinear to 32x32 px",
        "Knows no blasts.",
    ):
        assert part in out
    code, out, _ = run("models", "show", weights, "--json")
    assert json.loads(out) == json.loads(told.to_json())
    assert read_classifier_card(weights) == told


def test_show_of_a_classifier_without_its_plugin(
    run: Run, tiny_classifier: Path, tmp_path: Path
) -> None:
    card, tensors = read_classifier_weights(tiny_classifier)
    architecture = dataclasses.replace(card.architecture, name="gone", scheme="ovr")
    weights = tmp_path / "w.safetensors"
    write_weights(weights, dataclasses.replace(card, architecture=architecture), tensors)
    code, out, _ = run("models", "show", weights)
    assert code == 0
    assert "unknown: no classifier 'gone'" in " ".join(out.split())
    assert "one network per type against the rest" in out


def test_check_of_classifier_weights(run: Run, tiny_classifier: Path, tmp_path: Path) -> None:
    said = f"model {tiny_classifier}: ok\n"
    assert run("models", "check", tiny_classifier) == (0, said, "")
    card, tensors = read_classifier_weights(tiny_classifier)
    weights = tmp_path / "bad.safetensors"
    write_weights(weights, dataclasses.replace(card, data=(), taxonomy="wbc-5"), tensors)
    code, out, _ = run("models", "check", weights)
    assert code == 1
    assert "names no training data" in out
    assert "the types ig, erythroblast are not of the card's taxonomy wbc-5" in out
    tensors["body.fc.bias"].fill_(torch.nan)
    write_weights(weights, card, tensors)
    code, out, err = run("models", "check", weights)
    assert code == 1, err
    assert "tensor body.fc.bias holds values that are not finite" in out
    assert "probabilities are not finite" in out


def test_check_of_a_name_that_is_both(run: Run) -> None:
    code, out, _ = run("models", "check", "timm/test_resnet")
    assert code == 0
    assert out == "backbone timm/test_resnet: ok\nclassifier timm/test_resnet: ok\n"


def test_check_of_a_classifier_plugin(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build_classifier(num_classes): return num_classes\n")
    code, out, _ = run("models", "check", "mine", "--plugins", tmp_path)
    assert code == 1
    assert "built a int, expected a torch.nn.Module" in out
    assert "classifier mine: 1 problem\n" in out


def test_check_of_nothing_says_what_there_is(run: Run) -> None:
    code, _, error = run("models", "check", "timn")
    assert code == 3
    assert "no model, backbone, classifier or file named 'timn'" in error
    assert "timm/NAME" in error


@pytest.mark.parametrize("name", packaged_weights())
def test_packaged_models_are_sound_small_and_say_where_they_come_from(name: str) -> None:
    path = packaged_weights()[name]
    card = read_any_card(path)
    assert check_weights(path) == []
    assert card.name == name
    assert path.stat().st_size <= (12e6 if card.task == "classifier" else 30e6)
    assert card.evaluations
    for source in card.data:
        assert {"name", "source", "license"} <= source.keys()
