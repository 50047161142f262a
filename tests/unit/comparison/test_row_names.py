"""Sheets and corrections are read by the words that people use; a slip of the pen is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from cellcount.analysis.reviewer_types import Vocabulary
from cellcount.comparison.compare import Options, compare
from cellcount.comparison.count_tables import read_count_table
from cellcount.core.records import CellClass
from cellcount.differential.figures import TypeRows
from cellcount.differential.profile import load_profile, parse_profile, profile_text
from cellcount.differential.row_names import RowNames
from cellcount.errors import UsageError

OURS = (
    "slide,row,name,percent\n"
    "s1,segmented_neutrophils,segmented neutrophils,50\n"
    "s1,band_forms,band forms,5\n"
    "s1,lymphocytes,lymphocytes,30\n"
    "s1,monocytes,monocytes,9\n"
    "s1,eosinophils,eosinophils,4\n"
    "s1,basophils,basophils,2\n"
    "s1,lymphoid,lymphoid,30\n"  # a group, not a slip of lympho
)


def matched(tmp_path: Path, header: str, values: str, options: Options | None = None) -> set[str]:
    (tmp_path / "ours.csv").write_text(OURS)
    (tmp_path / "manual.csv").write_text(f"slide,{header}\ns1,{values}\n")
    tables = [read_count_table(tmp_path / name) for name in ("ours.csv", "manual.csv")]
    return {one.id for one in compare(tables[0], tables[1], options).classes}


@pytest.mark.parametrize(
    "header",
    [
        "Segs,Bands,Lymphs,Monos,Eos,Basos",
        "Seg,band,Lymph,Mono,Eo,Baso",
        "SNE,BNE,LYM,MON,EOS,BAS",
        "Segmentkernige,Stabkernige,Lymphozyten,Monozyten,Eosinophile,Basophile",
    ],
)
def test_everyday_abbreviations_need_no_pair(tmp_path: Path, header: str) -> None:
    assert matched(tmp_path, header, "50,5,30,9,4,2") == {
        *("segmented_neutrophils", "band_forms", "lymphocytes"),
        *("monocytes", "eosinophils", "basophils"),
    }


def test_nucleated_red_cells_stay_outside_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "manual.csv").write_text("slide,Segs,Lymphs,NRBCs\ns1,60,40,7\n")
    table = read_count_table(tmp_path / "manual.csv")
    assert "not part of the denominator: NRBCs" in table.notes
    assert table.rows[0].shares["Segs"].percent == 60


def test_a_class_that_is_no_row_is_not_matched_to_a_class_named_by_a_sign(tmp_path: Path) -> None:
    assert matched(tmp_path, "Lymphs,Monos,?", "60,30,10") == {"lymphocytes", "monocytes"}


def test_classes_that_differ_in_a_sign_alone_keep_their_partners(tmp_path: Path) -> None:
    for name, numbers in (("a", "20,80"), ("b", "30,70")):
        (tmp_path / f"{name}.csv").write_text(f"slide,cd4+,cd4-\ns1,{numbers}\n")
    predicted, reference = (read_count_table(tmp_path / f"{name}.csv") for name in "ab")
    found = {one.id: one.reference_id for one in compare(predicted, reference).classes}
    assert found == {"cd4+": "cd4+", "cd4-": "cd4-"}


def test_a_near_miss_is_suggested_and_nothing_is_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="class 'Lymphocites'; did you mean 'lymphocytes'"):
        matched(tmp_path, "Segs,Lymphocites,Monos", "50,30,20")
    pairs = Options(pairs={"lymphocytes": "Lymphocites"})
    assert "lymphocytes" in matched(tmp_path, "Segs,Lymphocites,Monos", "50,30,20", pairs)


def test_a_profile_adds_the_names_of_its_laboratory(tmp_path: Path) -> None:
    text = profile_text("peripheral-blood") + '\n[synonyms]\nlymphocytes = ["small blues"]\n'
    profile = parse_profile("mine", text, origin="mine.toml")
    options = Options(names=RowNames(profile.synonyms))
    assert "lymphocytes" in matched(tmp_path, "Segs,Small Blues", "60,40", options)
    wrong = profile_text("peripheral-blood") + '\n[synonyms]\nlymphocytes = "x"\n'
    with pytest.raises(UsageError, match=r"synonyms lymphocytes is 'x'; list names in quotes"):
        parse_profile("mine", wrong, origin="mine.toml")


def test_corrections_are_read_by_the_same_words() -> None:
    types = (
        CellClass("neutrophil", "neutrophil", "neutrophils", "NEU"),
        CellClass("lymphocyte", "lymphocyte", "lymphocytes", "LYM"),
        CellClass("erythroblast", "erythroblast", "erythroblasts", "ERB"),
    )
    assessable = (
        TypeRows("neutrophil", "neutrophils", ("band_forms", "segmented_neutrophils")),
        TypeRows("lymphocyte", "lymphocytes", ("lymphocytes",)),
        TypeRows("erythroblast", "erythroblasts", ("nucleated_red_cells",)),
    )
    words = Vocabulary(types, assessable, load_profile("peripheral-blood"))
    for said, meant in {
        "Segs": "segmented_neutrophils", "SNE": "segmented_neutrophils", "band": "band_forms",
        "Lymphs": "lymphocyte", "Eos": "eosinophils", "NRBC": "erythroblast",
        "neuts": "neutrophil", "Monozyten": "monocytes", "?": "unclassified",
        "not a cell": "not_a_cell", "Blasts": "blasts",
    }.items():  # fmt: skip
        assert words.id_of(said) == meant
    with pytest.raises(ValueError, match="'Lymphocites' is no type; did you mean 'lymphocyte'"):
        words.id_of("Lymphocites")
