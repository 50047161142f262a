"""Settings: recipes build, and every wrong value is named with what was expected."""

from __future__ import annotations

import pytest

from cellcount.errors import UsageError
from cellcount.training.detector.settings import RECIPES, DetectorTraining, from_recipe
from cellcount.training.detector.start import settings_of


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipes_are_valid_settings(recipe: str) -> None:
    assert isinstance(from_recipe(recipe, {"seed": 3}), DetectorTraining)


def test_the_recipe_of_the_seed_paper() -> None:
    """Wang et al. 2021, section on training: 2 images, 30,000 iterations, SGD, long edge 800."""
    settings = from_recipe("seed-004", {})
    assert (settings.backbone, settings.optimizer) == ("timm/resnet50", "sgd")
    assert (settings.batch_size, settings.iterations, settings.size_px) == (2, 30_000, 800)
    assert (settings.resize, settings.augment, settings.split) == ("long-edge", "flips", "90/10")
    assert (settings.pyramid, settings.finest_stride, settings.min_score) == ("fpn", 4, 0.7)


def test_a_start_from_a_model_takes_its_scale_and_crops_in_proportion() -> None:
    from_blood = settings_of("default", {"init": "blood"})
    assert (from_blood.rbc_diameter_px, from_blood.size_px, from_blood.lr) == (48.0, 224, 3e-4)
    asked = settings_of("default", {"init": "blood", "rbc_diameter_px": 60.0, "size_px": 96})
    assert (asked.rbc_diameter_px, asked.size_px) == (60.0, 96)
    assert settings_of("default", {}) == DetectorTraining()
    assert settings_of("bccd", {}) == from_recipe("bccd", {}), "the recipe's own scale"


def test_overrides_win() -> None:
    assert from_recipe("seed-004", {"lr": 0.1}).lr == 0.1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"red_cell_hue": True, "augment": "mild"},
            "red_cell_hue is true with augment 'mild'.*use augment full or wide",
        ),
        ({"epoch": 3}, "unknown training setting 'epoch'; did you mean 'epochs'"),
        ({"zzz": 3}, "unknown training setting 'zzz'; known are name"),
        ({"epochs": "many"}, "epochs is 'many', expected whole number"),
        ({"epochs": 1.5}, "epochs is 1.5, expected whole number"),
        ({"epochs": 0}, "epochs is 0, expected more than 0"),
        ({"lr": None}, "lr is None, expected number"),
        ({"lr": float("nan")}, "lr is nan, expected number"),
        ({"optimizer": "adam"}, "optimizer is 'adam', expected 'adamw' or 'sgd'"),
        ({"schedule": "linear"}, "schedule is 'linear', expected 'cosine' or"),
        ({"size_px": 100}, "expected a multiple of 32"),
        ({"ema_decay": 1.0}, "expected 0 to below 1"),
        ({"rbc_diameter_px": 4.0}, "expected 8 to 512"),
        ({"split": "90"}, "split is '90', expected given, all, or shares like 90/10"),
        ({"split": "90/0"}, "shares like 90/10"),
        ({"split": "a/b"}, "shares like 90/10"),
        ({"min_score": 70}, "min_score is 70, expected none or 0 to 1"),
        (
            {"refine_steps": 2, "refine_objective": "actor-critic"},
            "actor-critic, which improves a second look .* name such a model with init",
        ),
    ],
)
def test_a_wrong_value_is_refused(overrides: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_recipe("default", overrides)


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(UsageError, match="--recipe is 'fast', expected one of default, blood"):
        from_recipe("fast", {})


def test_shares_add_up_to_one() -> None:
    assert DetectorTraining(split="90/10").split_shares() == pytest.approx(
        {"train": 0.9, "val": 0.1}
    )
    assert DetectorTraining(split="3/1").split_shares() == pytest.approx(
        {"train": 0.75, "val": 0.25}
    )
