"""The packaged profiles say what the guidelines say; a broken file is told where and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount import cli
from cellcount.differential.profile import load_profile, parse_profile, profile_text, profiles
from cellcount.differential.rows import COUNTED_ROWS
from cellcount.errors import UsageError

BLOOD = profile_text("peripheral-blood")
MARROW = profile_text("bone-marrow")


def test_packaged_profiles_are_there() -> None:
    assert profiles() == ("bone-marrow", "peripheral-blood")
    for name in profiles():
        assert load_profile(name).kind == name
        assert load_profile(name).label() == f"{name} 1.0"
    assert load_profile("bone-marrow").label(forced=True) == "bone-marrow 1.0 (forced)"


def test_the_marrow_is_that_of_icsh() -> None:
    marrow = load_profile("bone-marrow")
    assert list(marrow.rows) == list(COUNTED_ROWS)
    assert set(marrow.outside) >= {
        *("megakaryocytes", "macrophages", "osteoblasts", "osteoclasts", "stromal_cells"),
        *("smudge_cells", "non_haemopoietic", "artefacts", "not_identifiable"),
    }
    assert [(t.cells, t.slides) for t in marrow.targets] == [(300, 1), (500, 2)]
    assert marrow.me_ratio is not None
    assert marrow.me_ratio.convention == "icsh"
    assert list(marrow.me_ratio.myeloid) == list(COUNTED_ROWS[:8])
    assert marrow.blasts is not None
    assert list(marrow.blasts.thresholds_percent) == [5, 10, 20]
    assert marrow.blasts.erythroid == ("erythroblasts",)


def test_the_blood_keeps_nucleated_red_cells_outside() -> None:
    blood = load_profile("peripheral-blood")
    assert blood.nrbc == "nucleated_red_cells"
    assert blood.nrbc not in blood.rows
    assert [t.cells for t in blood.targets] == [100, 200, 400]
    assert blood.absolute is not None
    assert blood.absolute.anc == "neutrophils"
    assert "platelets" in blood.outside


def test_a_laboratory_s_own_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    changed = BLOOD.replace('version = "1.0"', 'version = "2024-3"').replace(
        "exclude_focus_min = 0.15", "exclude_focus_min = 0.25"
    )
    path.write_text(changed, "utf-8")
    ours = load_profile(str(path))
    assert ours.label() == "ours 2024-3"
    assert ours.quality["exclude_focus_min"] == 0.25
    with pytest.raises(UsageError, match=r"cannot be read: .*No such file"):
        load_profile(str(tmp_path / "none.toml"))


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'bone-marrow'"):
        load_profile("bonemarrow")


@pytest.mark.parametrize(
    ("text", "old", "new", "message"),
    [
        (BLOOD, "rows = [", "rows = [[", "is not valid TOML"),
        (BLOOD, 'title = "P', 'titel = "P', "a key 'titel'; did you mean 'title'"),
        (BLOOD, 'version = "1.0"', "version = 1.0", "version = 1.0; expected text"),
        (BLOOD, 'version = "1.0"', "", "has no version; add it"),
        (BLOOD, 'kind = "peripheral-blood"', 'kind = "urine"', "kind 'urine'; expected periph"),
        (BLOOD, '"band_forms", "lymph', '"bands", "lymph', "rows 'bands'; did you mean 'band_fo"),
        (BLOOD, '"band_forms", "lymph', '"blasts", "lymph', "names blasts more than once"),
        (BLOOD, 'lymphoid = ["lymphocytes"]', "lymphoid = []", "lymphoid = \\[\\]; name at least"),
        (BLOOD, 'lymphoid = ["ly', 'Lymphoid = ["ly', "the id 'Lymphoid'; use lower-case"),
        (
            BLOOD,
            'lymphoid = ["lymphocytes"]',
            'lymphoid = ["lymphocytes", "platelets"]',
            "in which platelets lie outside the denominator",
        ),
        (BLOOD, 'band_forms = "x"', "", ""),
        (BLOOD, 'anc = "neutrophils"', 'anc = "neutros"', "anc 'neutros'; did you mean 'neutrop"),
        (BLOOD, "analyzer_counts_nrbc = false", "analyzer_counts_nrbc = 0", "true or false"),
        (BLOOD, "factor_10e9_per_l = 15", "factor_10e9_per_l = 0", "a number from 0.001 to 1000"),
        (BLOOD, "factor_10e9_per_l = 15", "factor_10e9_per_l = nan", "expected a number from"),
        (BLOOD, "cells = 200", "cells = 50", "cells \\[100, 50, 400\\]; name each number once"),
        (BLOOD, "cells = 200", 'cells = "200"', "expected a whole number"),
        (BLOOD, "[5, 10, 20]", "[5, 20, 10]", "name them in rising order"),
        (BLOOD, "[5, 10, 20]", "[5, 200]", "thresholds_percent = 200; expected a number from 0"),
        (BLOOD, 'nrbc = "nucleated_red_cells"', 'nrbc = "blasts"', "nrbc 'blasts'; expected"),
        (BLOOD, "unclassified_percent = 10", "unclassified_percent = true", "expected a number"),
        (
            BLOOD,
            "focus_min = 0.5",
            "focus_min = 0.5\nfocus_max = 0.1",
            "focus_max = 0.1; a minimum",
        ),
        (BLOOD, "exclude_focus_min = 0.15", "exclude_focus_min = 0.6", "= 0.6 above focus_min = 0"),
        (
            BLOOD,
            "clipped_percent_max = 50",
            "clipped_percent_max = 50\nexclude_clipped_percent_max = 40",
            "50 above exclude_clipped_percent_max = 40",
        ),
        (BLOOD, "exposure_min = 100", "exclude_exposure_max = 20", "lies beyond both"),
        (MARROW, 'convention = "icsh"', 'convention = "ours"', "convention 'ours'; expected icsh"),
        (MARROW, 'monocytes = ["monocytes"]', 'monocytes = ["blasts"]', "blasts more than once"),
        (MARROW, 'row = "blasts"', 'row = "smudge_cells"', "row 'smudge_cells'"),
        (MARROW, "[names]", "[names]\nblast = 'x'", "a row 'blast'; did you mean 'blasts'"),
        (MARROW, "[names]", "[names]\nblasts = 3", "blasts = 3; expected text"),
        (MARROW, "slides = 2", "slides = 0", "slides = 0; expected a number from 1 to 100"),
    ],
)
def test_what_is_wrong_is_said_with_the_file(text: str, old: str, new: str, message: str) -> None:
    if not message:  # the plain file is right, so the others fail for their change alone
        assert parse_profile("x", text, origin="x.toml").rows
        return
    assert old in text
    with pytest.raises(UsageError, match=message) as caught:
        parse_profile("x", text.replace(old, new, 1), origin="x.toml")
    assert str(caught.value).startswith("x.toml")


def test_targets_that_are_no_tables() -> None:
    text = MARROW.partition("[[targets]]")[0]
    with pytest.raises(UsageError, match="each target is a"):
        parse_profile("x", "targets = [300]\n" + text, origin="x.toml")


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profiles", "list"]) == 0
    listed = capsys.readouterr().out
    assert "bone-marrow" in listed
    assert "peripheral-blood" in listed
    for name in profiles():
        assert cli.main(["profiles", "show", name]) == 0
        shown = " ".join(capsys.readouterr().out.split())
        one = load_profile(name)
        for row in (*one.rows, *one.outside):
            assert one.name_of(row) in shown
        for target in one.targets:
            assert str(target.cells) in shown
        assert cli.main(["profiles", "show", name, "--toml"]) == 0
        assert capsys.readouterr().out == profile_text(name)
        assert cli.main(["profiles", "check", name]) == 0
        assert f"{name}: ok" in capsys.readouterr().out
    path = tmp_path / "own.toml"
    path.write_text(BLOOD.replace('kind = "p', 'knd = "p'), "utf-8")
    assert cli.main(["profiles", "check", str(path)]) == 2
    assert f"{path} has a key 'knd'; did you mean 'kind'?" in capsys.readouterr().err


def test_packaged_profiles_name_two_sources_of_their_codes() -> None:
    for name in profiles():
        codes = load_profile(name).codes
        assert len(set(codes.sources)) >= 2
        assert codes.percent
        every = [*codes.percent.values(), *codes.absolute.values()]
        assert len({code.code for code in every}) == len(every)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ('percent.monocytes = "26485-4 Monocytes"', "has monocytes = '26485-4 Monocytes'"),
        ('percent.monocytes = "Monocytes"', "expected a code with its check digit, and its name"),
        ('percent.monocites = "26485-3 Monocytes"', "did you mean 'monocytes'"),
        ('sources = ["one", "one"]', "name two that the codes were checked against"),
    ],
)
def test_codes_that_cannot_be_meant_are_refused(codes: str, message: str) -> None:
    plain = profile_text("peripheral-blood").partition("[loinc]")[0]
    sources = "" if "sources" in codes else 'sources = ["one", "two"]\n'
    with pytest.raises(UsageError, match=message):
        parse_profile("mine", f"{plain}[loinc]\n{sources}{codes}\n", origin="mine.toml")
