"""The packaged taxonomies say what the data sets and papers say; broken files say where."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from cellcount.differential.rows import COUNTED_ROWS
from cellcount.errors import UsageError
from cellcount.models.taxonomy import (
    LINEAGES,
    fitting_taxonomies,
    load_taxonomy,
    mapping,
    parse_taxonomy,
    plain_taxonomy,
    taxonomies,
)

SIZES = {
    "aml-fab-8": 8, "aml-lmu-15": 15, "cells-14": 14, "lineage-5": 5, "mll-14": 14, "mll-21": 21,
    "mll-7": 7, "pbc-13": 13, "pbc-8": 8, "wbc-5": 5, "zju-7": 7,
}  # fmt: skip
LINEAGES_OF_THE_PAPER = {
    "erythropoiesis": "EBO PEB",
    "granulopoiesis": "NGS PMO BLA NGB MYB EOS MMZ BAS FGC ABE",
    "lymphopoiesis": "LYT PLM HAC LYI",
    "monopoiesis": "MON",
    "others": "KSC ART OTH NIF",
}
MAPPINGS = [f"{name}:{target}" for name in taxonomies() for target in load_taxonomy(name).mappings]


def test_all_taxonomies_are_there_with_the_size_their_name_says() -> None:
    assert {name: len(load_taxonomy(name)) for name in taxonomies()} == SIZES


def test_importing_them_is_light() -> None:
    code = (
        "import sys; from cellcount.models.taxonomy import load_taxonomy; load_taxonomy('mll-7');"
        "assert not {'numpy', 'torch', 'pandas'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", taxonomies())
def test_every_type_is_complete(name: str) -> None:
    taxonomy = load_taxonomy(name)
    assert taxonomy.title
    assert taxonomy.source
    for position, cell_type in enumerate(taxonomy.types):
        assert cell_type.name
        assert cell_type.plural
        assert cell_type.lineage in LINEAGES
        assert cell_type.in_denominator == bool(set(cell_type.rows) & set(COUNTED_ROWS))
        assert all(taxonomy.index(label) == position for label in cell_type.labels())


@pytest.mark.parametrize("name", taxonomies())
def test_neighbours_know_each_other(name: str) -> None:
    near = load_taxonomy(name).neighbours()
    assert all(i in near[j] and i != j for i, others in enumerate(near) for j in others)


def test_maturation_runs_from_blast_to_segmented_neutrophil() -> None:
    mll = load_taxonomy("mll-21")
    stages = [mll.index(code) for code in ("BLA", "PMO", "MYB", "MMZ", "NGB", "NGS")]
    near = mll.neighbours()
    for i, one in enumerate(stages):
        assert [j for j, other in enumerate(stages) if other in near[one]] == [
            j for j in (i - 1, i + 1) if 0 <= j < len(stages)
        ]


def test_mll_names_the_21_folders_and_the_lineages_of_the_paper() -> None:
    mll = load_taxonomy("mll-21")
    codes = {code for several in LINEAGES_OF_THE_PAPER.values() for code in several.split()}
    assert {t.abbreviation for t in mll.types} == codes
    merge = mapping("mll-21:lineage-5")
    for lineage, several in LINEAGES_OF_THE_PAPER.items():
        expected = {mll.types[mll.index(code)].id for code in several.split()}
        assert set(merge.sources_of(lineage)) == expected
        assert {mll.types[i].id for i in mll.members(lineage=lineage)} == expected
    assert merge.dropped == ()


def test_mll_14_holds_the_types_with_a_thousand_images_and_says_that_it_is_inferred() -> None:
    taxonomy = load_taxonomy("mll-14")
    expected = [
        "ART",
        "BLA",
        "EBO",
        "EOS",
        "LYT",
        "MMZ",
        "MON",
        "MYB",
        "NGB",
        "NGS",
        "NIF",
        "PEB",
        "PLM",
        "PMO",
    ]
    assert sorted(t.abbreviation for t in taxonomy.types) == expected
    assert any("Inferred" in note for note in taxonomy.notes)


def test_mll_7_says_loudly_what_it_lacks() -> None:
    taxonomy = load_taxonomy("mll-7")
    assert sorted(t.abbreviation for t in taxonomy.types) == [
        "BLA",
        "EOS",
        "LYT",
        "MON",
        "NGS",
        "NIF",
        "PMO",
    ]
    assert "no marrow differential can rest" in taxonomy.notes[0]
    assert taxonomy.neighbours()[taxonomy.index("PMO")] == (taxonomy.index("BLA"),)


@pytest.mark.parametrize("name", ["mll-21", "mll-14", "mll-7"])
def test_a_blast_of_mll_may_be_of_any_lineage(name: str) -> None:
    taxonomy = load_taxonomy(name)
    blast = taxonomy.types[taxonomy.index("BLA")]
    assert "any lineage" in blast.name
    assert "not a myeloblast" in blast.note
    assert any("any lineage" in note for note in taxonomy.notes)


def test_fab_is_our_reading_of_the_paper_and_says_so() -> None:
    fab = load_taxonomy("aml-fab-8")
    assert [t.abbreviation for t in fab.types] == [
        "MYO",
        "PMO",
        "MYB",
        "MMZ",
        "NGB",
        "NGS",
        "MON",
        "OTH",
    ]
    assert fab.notes[0].startswith("Our reading")
    merge = mapping("aml-lmu-15:aml-fab-8")
    assert merge.sources_of("promyelocyte") == ("promyelocyte", "bilobed_promyelocyte")
    assert "monoblast" in merge.sources_of("other")
    assert load_taxonomy("aml-lmu-15").profile == "peripheral-blood"


def test_the_codes_of_pbc_merge_into_its_folders() -> None:
    merge = mapping("pbc-13:pbc-8")
    assert merge.sources_of("ig") == ("promyelocyte", "myelocyte", "metamyelocyte", "ig")
    fine, coarse = load_taxonomy("pbc-13"), load_taxonomy("pbc-8")
    for code in ("SNE", "BNE", "NEUTROPHIL", "PMY", "MY", "MMY", "IG", "BA", "ERB", "PLATELET"):
        target = merge.target_of[fine.types[fine.index(code)].id]
        assert target == coarse.types[coarse.index(code)].id
    for one, others in zip(fine.types, fine.neighbours(), strict=True):
        for other in (fine.types[i] for i in others):
            a, b = (coarse.index(str(merge.target_of[t.id])) for t in (one, other))
            assert a == b or b in coarse.neighbours()[a]


def test_labels_of_the_real_data_sets_are_known(shared_data: Path) -> None:
    table = shared_data / "pbc" / "splits.csv"
    if not table.is_file():
        pytest.skip(f"{table} is not here")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    fine, coarse = load_taxonomy("pbc-13"), load_taxonomy("pbc-8")
    assert len({row["code"] for row in rows}) == 13
    assert {fine.index(row["code"]) for row in rows} == set(range(13))
    for row in rows:
        assert coarse.index(row["class"]) == coarse.index(row["code"])


@pytest.mark.parametrize("name", MAPPINGS)
def test_mappings_are_total_and_keep_the_lineage(name: str) -> None:
    merge = mapping(name)
    source, target = load_taxonomy(merge.source), load_taxonomy(merge.target)
    assert list(merge.target_of) == list(source.ids)
    assert merge.name == name
    for cell_type in source.types:
        mapped = merge.target_of[cell_type.id]
        if mapped is not None and mapped not in ("other", "others"):
            assert target.types[target.index(mapped)].lineage == cell_type.lineage


def test_selections_of_the_same_types_map_by_themselves() -> None:
    assert mapping("mll-21:mll-14").dropped == (
        "abnormal_eosinophil", "basophil", "faggot_cell", "hairy_cell", "smudge_cell",
        "immature_lymphocyte", "other_cell",
    )  # fmt: skip
    assert mapping("mll-7:mll-21").dropped == ()
    assert mapping("mll-14:mll-7").sources_of("blast") == ("blast",)
    assert mapping("mll-7:lineage-5").sources_of("granulopoiesis") == (
        "blast", "eosinophil", "segmented_neutrophil", "promyelocyte",
    )  # fmt: skip


def test_nucleated_red_cells_enter_the_denominator_in_marrow_only() -> None:
    for name, counted in (("pbc-8", False), ("aml-lmu-15", False), ("mll-21", True)):
        taxonomy = load_taxonomy(name)
        assert taxonomy.types[taxonomy.index("erythroblast")].in_denominator is counted


def test_groups() -> None:
    mll = load_taxonomy("mll-21")
    codes = {
        group: {mll.types[i].abbreviation for i in mll.members(group=group)}
        for group in ("neutrophils", "immature granulocytes", "erythroid", "lymphoid", "blasts")
    }
    assert codes == {
        "neutrophils": {"NGB", "NGS"},
        "immature granulocytes": {"PMO", "MYB", "MMZ", "FGC"},
        "erythroid": {"EBO", "PEB"},
        "lymphoid": {"LYT", "LYI", "HAC", "PLM"},
        "blasts": {"BLA"},
    }


@pytest.mark.parametrize(
    ("label", "expected"),
    [("BNE", 1), ("bne", 1), (" Band_Neutrophil ", 1), ("band-neutrophils", 1), ("SNE", 0)],
)
def test_labels_are_found_in_any_spelling(label: str, expected: int) -> None:
    assert load_taxonomy("pbc-13").index(label) == expected


def test_cells_14_says_which_types_are_no_white_cells() -> None:
    types = load_taxonomy("cells-14").types
    others = {t.id for t in types if not t.white_cell}
    assert others == {"platelet", "artefact", "not_a_white_cell"}
    assert all(t.white_cell for t in load_taxonomy("pbc-8").types)


def test_taxonomies_that_fit_labels() -> None:
    assert fitting_taxonomies(["BLA", "NGS"]) == ("mll-7", "mll-14", "mll-21", "cells-14")
    assert fitting_taxonomies(["neutrophil", "platelet"])[0] == "pbc-8"
    assert fitting_taxonomies(["SNE", "BNE", "LY"])[0] == "pbc-13"
    assert fitting_taxonomies(["cat"]) == ()
    assert fitting_taxonomies([]) == ()


def test_own_labels_without_a_taxonomy() -> None:
    plain = plain_taxonomy("ours", ["Reticulum cell", "Blast?", "Reticulum cell"], "bone-marrow")
    assert plain.ids == ("reticulum_cell", "blast")
    assert plain.index("Blast?") == 1
    assert not any(t.in_denominator or t.rows for t in plain.types)
    with pytest.raises(UsageError, match="rename the folders or labels"):
        plain_taxonomy("ours", ["a-b", "a b"], "bone-marrow")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: load_taxonomy("pcb-8"), "there is no taxonomy 'pcb-8'; did you mean 'pbc-8'?"),
        (lambda: load_taxonomy("gone.toml"), "the taxonomy gone.toml cannot be read"),
        (lambda: load_taxonomy("pbc-8").index("neutrofil"), "did you mean 'neutrophil'?"),
        (lambda: mapping("mll-21:linage-5"), "did you mean 'lineage-5'? known: mll-21:lineage-5"),
        (lambda: mapping("wbc-5:pbc-8"), "wbc-5 has no mapping to 'pbc-8'"),
        (lambda: mapping("mll-21"), "expected SOURCE:TARGET like mll-21:lineage-5"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(call: object, message: str) -> None:
    assert callable(call)
    with pytest.raises(UsageError) as caught:
        call()
    assert message in str(caught.value)


BLAST = """
[[types]]
id = "blast"
name = "blast"
plural = "blasts"
abbreviation = "BL"
lineage = "granulopoiesis"
rows = ["blasts"]
neighbours = ["neutrophil"]
"""
NEUTROPHIL = """
[[types]]
id = "neutrophil"
name = "neutrophil"
plural = "neutrophils"
abbreviation = "NE"
lineage = "granulopoiesis"
rows = ["segmented_neutrophils"]
neighbours = ["blast"]
"""
GOOD = (
    'title = "Ours"\nprofile = "bone-marrow"\nsource = "us"\n' + BLAST + NEUTROPHIL
    + '[mappings.wbc-5]\nkeep = ["neutrophil"]\ndrop = ["blast"]\n'
)  # fmt: skip


def test_a_laboratory_brings_its_own_file(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    path.write_text(GOOD)
    taxonomy = load_taxonomy(str(path))
    assert taxonomy.name == "ours"
    assert taxonomy.neighbours() == ((1,), (0,))
    assert mapping(f"{path}:wbc-5").target_of == {"blast": None, "neutrophil": "neutrophil"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("title", "tittle"), "ours has a key 'tittle'; did you mean 'title'?"),
        (('title = "Ours"', "title = 3"), "ours has title = 3; expected text"),
        (('source = "us"\n', ""), "ours has no source; add it"),
        (('"bone-marrow"', '"bonemarow"'), "did you mean 'bone-marrow'? expected peripheral-blood"),
        (('title = "Ours"', "title = "), "ours is not valid TOML"),
        ((BLAST + NEUTROPHIL, ""), "ours has no [[types]]"),
        (('id = "blast"', 'id = "Blast"'), "has the id 'Blast'; use lower-case letters"),
        (('plural = "blasts"\n', ""), "ours, type 'blast' has no plural; add it"),
        (('"granulopoiesis"', '"granulopoesis"'), "did you mean 'granulopoiesis'?"),
        (('rows = ["blasts"]', 'rows = ["blast"]'), "has rows 'blast'; did you mean 'blasts'?"),
        (('rows = ["blasts"]', 'groups = ["blast"]'), "has groups 'blast'; did you mean 'blasts'?"),
        (('rows = ["blasts"]', 'rows = "blasts"'), "has rows = 'blasts'; expected a list of texts"),
        (('rows = ["blasts"]', ""), "has rows [] and denominator = true; a type enters"),
        (
            ('rows = ["blasts"]', 'rows = ["platelets"]'),
            "has rows ['platelets'] and denominator = true",
        ),
        (('neighbours = ["blast"]', ""), "has the neighbour neutrophil, which does not have blast"),
        (('neighbours = ["blast"]', 'neighbours = ["blas"]'), "did you mean 'blast'?"),
        (('abbreviation = "NE"', 'abbreviation = "bl"'), "uses the name 'bl' for blast and for"),
        (('drop = ["blast"]', ""), "mapping to 'wbc-5' says nothing of blast; map them with to"),
        (('drop = ["blast"]', 'drop = ["blast", "neutrophil"]'), "names neutrophil more than once"),
        (('keep = ["neutrophil"]', 'to.cat = ["neutrophil"]'), "has a target type 'cat'"),
        (('keep = ["neutrophil"]', 'keep = ["neutrofil"]'), "did you mean 'neutrophil'?"),
        (('keep = ["neutrophil"]', "keep = [1]"), "has keep = [1]; expected a list of texts"),
        (("mappings.wbc-5", "mappings.wbc-6"), "there is no taxonomy 'wbc-6'"),
    ],
)
def test_broken_files_say_where_and_what_to_do(change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(UsageError) as caught:
        parse_taxonomy("ours", GOOD.replace(*change), origin="ours")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('keep = ["blasts"]', "did you mean 'blast'?"),
        ('keep = ["blast"]\nprofile = "bone-marrow"', "has both subset_of and profile"),
        ('keep = ["blast"]\nalso_for = ["bone-marrow"]', "has both subset_of and also_for"),
    ],
)
def test_broken_selections(text: str, message: str) -> None:
    head = 'title = "a"\nsource = "b"\nsubset_of = "mll-21"\n'
    with pytest.raises(UsageError) as caught:
        parse_taxonomy("ours", head + text, origin="ours")
    assert message in str(caught.value)
