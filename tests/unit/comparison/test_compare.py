"""Tables compared class by class: what is matched, judged, left out and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cellcount.comparison import agreement
from cellcount.comparison.compare import Comparison, Options, compare
from cellcount.comparison.count_tables import CountTable, read_count_table
from cellcount.comparison.result_rows import class_rows, to_document
from cellcount.comparison.result_tables import overview
from cellcount.differential.limits import share_limits
from cellcount.errors import UsageError


def sheet(path: Path, counts: dict[str, list[int]], header: str = "slide,NEU,LYM") -> CountTable:
    lines = [header, *(",".join([name, *map(str, row)]) for name, row in counts.items())]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return read_count_table(path)


@pytest.fixture
def compared(tmp_path: Path) -> Comparison:
    rng = np.random.default_rng(1)
    mine, theirs = {}, {}
    for i, p in enumerate(rng.uniform(0.2, 0.8, 30)):
        a, b = rng.binomial(300, p), rng.binomial(200, p)
        mine[f"s{i}"], theirs[f"s{i}"] = [a, 300 - a], [b, 200 - b]
    del mine["s3"], theirs["s4"]
    header = "slide,neu,lymphocytes"
    return compare(
        sheet(tmp_path / "mine.csv", mine), sheet(tmp_path / "theirs.csv", theirs, header),
        Options(pairs={"LYM": "lymphocytes"}, class_thresholds={"NEU": (40.0,)}),
    )  # fmt: skip


def test_every_figure_is_the_one_of_agreement(compared: Comparison) -> None:
    one = compared.classes[0]
    x, y = one.reference, one.predicted
    assert one.id == "NEU"
    assert one.reference_id == "neu"
    assert len(one.units) == 28
    assert one.bland_altman == agreement.bland_altman(x, y)
    assert one.passing_bablok == agreement.passing_bablok(x, y)
    assert one.deming == agreement.deming(x, y, 1.0)
    assert one.icc == agreement.icc_2_1(np.stack([x, y], 1))
    assert one.agreement == {40.0: agreement.agreement_at(x, y, 40.0)}
    assert list(compared.classes[1].agreement) == [5.0, 10.0, 20.0]
    assert compared.only_predicted == ("s4",)
    assert compared.only_reference == ("s3",)
    row = class_rows(compared)[0]
    assert row["bias"] == pytest.approx((y - x).mean())
    assert row["mean_reference"] == pytest.approx(x.mean())
    assert to_document(compared)["classes"][0]["pairs"][0]["reference"] == x[0]


def test_rumke_and_the_two_sample_interval(compared: Comparison) -> None:
    """By hand: Rümke knows the reference's cells alone, so fewer slides pass than by both."""
    one = compared.classes[0]
    inside = 0
    for x, y in zip(one.reference, one.predicted, strict=True):
        limits = share_limits(round(x * 2), 200, method="clopper-pearson")
        assert limits is not None
        assert limits.high is not None
        inside += limits.low <= y / 100 <= limits.high
    assert (one.rumke.passed, one.rumke.judged) == (inside, 28)
    assert one.two_sample.judged == 28
    assert one.two_sample.passed >= one.rumke.passed
    assert one.rumke.limits == share_limits(inside, 28)


def test_names_match_by_id_by_words_and_by_pair(tmp_path: Path) -> None:
    ours = tmp_path / "slides.csv"
    ours.write_text(
        "level,slide,kind,row,name,n,denominator,percent\n"
        + "".join(
            f"slide,s{i},class,segmented_neutrophils,segmented neutrophils,{60 + i},100,{60 + i}\n"
            for i in range(3)
        )
    )
    theirs = sheet(
        tmp_path / "m.csv", {f"s{i}": [58 + i, 42 - i] for i in range(3)},
        "slide,Segmented Neutrophils,rest",
    )  # fmt: skip
    found = compare(read_count_table(ours), theirs)
    assert [one.reference_id for one in found.classes] == ["Segmented Neutrophils"]
    assert found.classes_only_reference == ("rest",)


def test_specimens_are_compared_where_slides_share_no_name(tmp_path: Path) -> None:
    """A specimen's slides are pooled where the table has no row of the specimen itself."""
    ours = tmp_path / "ours.csv"
    ours.write_text("specimen,slide,NEU,LYM\nP,1,10,90\nP,2,30,70\nQ,3,50,50\n")
    theirs = sheet(tmp_path / "t.csv", {"P": [21, 79], "Q": [40, 60]}, "specimen,NEU,LYM")
    found = compare(read_count_table(ours), theirs)
    assert found.level == "specimen"
    assert found.classes[0].predicted.tolist() == [20.0, 50.0]
    assert any("pooled for P" in note for note in found.notes)


@pytest.mark.parametrize("slides", [1, 2, 3, 4])
def test_few_slides_give_words_instead_of_numbers(tmp_path: Path, slides: int) -> None:
    rows = {f"s{i}": [50 + 3 * i, 50 - 3 * i] for i in range(slides)}
    found = compare(sheet(tmp_path / "a.csv", rows), sheet(tmp_path / "b.csv", rows))
    one = found.classes[0]
    if slides < 3:
        assert (one.bland_altman, one.deming, one.passing_bablok) == (None, None, None)
        assert "at least 3 are needed" in one.notes[0]
    else:
        assert one.passing_bablok is not None
        assert one.passing_bablok.slope == pytest.approx(1)
        assert one.passing_bablok.slope_limits is None
        assert "too few different values" in " ".join(one.notes)
    assert any("CLSI EP09" in note for note in found.notes)
    assert overview(found, found.classes)


def test_constant_values_have_no_line(tmp_path: Path) -> None:
    theirs = {f"s{i}": [60, 40] for i in range(6)}
    mine = {f"s{i}": [55 + i, 45 - i] for i in range(6)}
    found = compare(sheet(tmp_path / "a.csv", mine), sheet(tmp_path / "b.csv", theirs))
    one = found.classes[0]
    assert one.bland_altman is not None
    assert (one.passing_bablok, one.deming, one.pearson_r) == (None, None, None)
    assert "the reference is 60 % everywhere" in one.notes[0]
    same = compare(sheet(tmp_path / "c.csv", theirs), sheet(tmp_path / "b.csv", theirs))
    assert same.classes[0].icc is None
    assert same.classes[0].agreement[20.0].kappa is None


def test_a_class_missing_on_some_slides_is_compared_on_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("slide,n,NEU,LYM\n" + "".join(f"s{i},100,{40 + i},\n" for i in range(4))
                    + "s4,100,50,50\n")  # fmt: skip
    theirs = sheet(tmp_path / "b.csv", {f"s{i}": [45, 55 + 0 * i] for i in range(5)})
    found = compare(read_count_table(path, values="counts"), theirs)
    lymphocytes = found.classes[1]
    assert lymphocytes.units == ("s4",)
    assert lymphocytes.missing == ("s0", "s1", "s2", "s3")


def test_without_n_there_is_no_rule_of_rumke(tmp_path: Path) -> None:
    mine = sheet(tmp_path / "a.csv", {f"s{i}": [40 + i, 60 - i] for i in range(4)})
    path = tmp_path / "b.csv"
    path.write_text("slide,NEU,LYM\n" + "".join(f"s{i},{40.5 + i},{59.5 - i}\n" for i in range(4)))
    one = compare(mine, read_count_table(path)).classes[0]
    assert one.rumke.rate is None
    assert one.two_sample.rate is None
    assert any("column n" in note for note in one.notes)


def test_nothing_in_common_is_an_error(tmp_path: Path) -> None:
    mine = sheet(tmp_path / "a.csv", {"s": [4, 6]})
    with pytest.raises(UsageError, match="no slides in common: the first has s, the second t"):
        compare(mine, sheet(tmp_path / "b.csv", {"t": [4, 6]}))
    with pytest.raises(UsageError, match="no classes in common.*--pair"):
        compare(mine, sheet(tmp_path / "c.csv", {"s": [4, 6]}, "slide,x,y"))
    with pytest.raises(UsageError, match="has no class 'LYN'; did you mean 'LYM'"):
        compare(mine, mine, Options(pairs={"LYN": "LYM"}))
    with pytest.raises(UsageError, match="has no class 'x'"):
        compare(mine, mine, Options(class_thresholds={"x": (5.0,)}))
    with pytest.raises(UsageError, match="--error-ratio is 0"):
        Options(error_ratio=0)
    with pytest.raises(UsageError, match="--threshold is 0"):
        Options(thresholds=(0.0,))


FOUR = "".join(f"P{i},1,{i}0,{100 - 10 * i}\n" for i in range(1, 5))
"""Four patients, each of whom has a slide that is called 1."""


def read(path: Path, text: str) -> CountTable:
    path.write_text(text, "utf-8")
    return read_count_table(path)


def test_slides_of_different_specimens_are_different_slides(tmp_path: Path) -> None:
    """Slides are paired as the roll-up takes them: a name alone does not tell the specimen."""
    ours = read(tmp_path / "a.csv", "specimen,slide,NEU,LYM\n" + FOUR)
    theirs = read(tmp_path / "b.csv", "specimen,slide,NEU,LYM\n" + FOUR + "P5,1,7,93\n")
    found = compare(ours, theirs)
    assert found.units == ("1 of P1", "1 of P2", "1 of P3", "1 of P4")
    assert found.classes[0].reference.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert found.classes[0].predicted.tolist() == [10.0, 20.0, 30.0, 40.0]
    assert found.only_reference == ("1 of P5",)
    assert not any("pooled" in note for note in found.notes)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("specimen,slide,NEU,LYM\n" + FOUR, "slide,NEU,LYM\n1,50,50\n"),
        ("slide,NEU,LYM\n1,50,50\n", "specimen,slide,NEU,LYM\n" + FOUR),
        ("specimen,slide,NEU,LYM\n" + FOUR, "specimen,slide,NEU,LYM\n,1,50,50\nP2,1,20,80\n"),
    ],
)
def test_a_slide_that_could_be_of_several_specimens_is_refused(
    tmp_path: Path, ours: str, theirs: str
) -> None:
    tables = read(tmp_path / "a.csv", ours), read(tmp_path / "b.csv", theirs)
    message = r"does not say of which specimen its slide '1' is, .*P1, P2.*a column specimen"
    with pytest.raises(UsageError, match=message):
        compare(*tables)


def test_a_table_without_specimens_goes_by_the_names_of_slides(tmp_path: Path) -> None:
    ours = read(tmp_path / "a.csv", "specimen,slide,NEU,LYM\nP,1,10,90\nP,2,30,70\nQ,3,50,50\n")
    theirs = read(tmp_path / "b.csv", "slide,NEU,LYM\n3,40,60\n1,20,80\n1,40,60\n")
    found = compare(ours, theirs)
    assert (found.level, found.units) == ("slide", ("1", "3"))
    assert found.classes[0].reference.tolist() == [30.0, 40.0]
    assert found.only_predicted == ("2",)
    assert any("b.csv: several rows are pooled for 1" in note for note in found.notes)


def test_the_same_name_of_other_specimens_is_nothing_in_common(tmp_path: Path) -> None:
    ours = read(tmp_path / "a.csv", "specimen,slide,NEU,LYM\nP,1,10,90\n")
    theirs = read(tmp_path / "b.csv", "specimen,slide,NEU,LYM\nR,1,10,90\n")
    with pytest.raises(UsageError, match=r"first has 1 of P, the second 1 of R; .*specimens are"):
        compare(ours, theirs)
