"""HL7 v2.5.1 messages are valid, and a reader of HL7 finds the numbers of the differential."""

from __future__ import annotations

from typing import Any

import pytest

from cellcount.differential.figures import TypeRows
from cellcount.outputs.hl7 import hl7_message
from cellcount.outputs.laboratory_results import (
    RESEARCH_USE,
    LaboratoryResult,
    laboratory_results,
)
from tests.unit.outputs import laboratory
from tests.unit.outputs.laboratory import PARTIAL, whole

TIME = "20260131120000+0000"


def results(types: tuple[TypeRows, ...]) -> list[LaboratoryResult]:
    return list(laboratory_results(laboratory.fields(types), laboratory.counting(types)))


def parsed(result: LaboratoryResult) -> Any:  # noqa: ANN401 -- as the library has it
    hl7 = pytest.importorskip("hl7", reason="needs python-hl7")
    return hl7.parse(hl7_message(result, "1.2.3", TIME))


@pytest.mark.parametrize("types", [whole(), PARTIAL, ()])
def test_every_message_is_valid_2_5_1(types: tuple[TypeRows, ...]) -> None:
    parser = pytest.importorskip("hl7apy.parser", reason="needs hl7apy")
    from hl7apy.consts import VALIDATION_LEVEL

    for result in results(types):
        message = parser.parse_message(
            hl7_message(result, "1.2.3", TIME), validation_level=VALIDATION_LEVEL.STRICT
        )
        assert message.validate()
        observed = message.oru_r01_patient_result.oru_r01_order_observation
        assert len(observed.oru_r01_observation) == len(result.rows)


def test_a_reader_finds_the_rows_with_their_codes_and_limits() -> None:
    result = results(whole())[0]
    message = parsed(result)
    rows = list(message.segments("OBX"))
    assert len(rows) == len(result.rows)
    for told, row in zip(rows, result.rows, strict=True):
        code = told[3][0]
        if row.loinc is not None:
            assert (str(code[0]), str(code[2])) == (row.loinc.code, "LN")
        if row.value is not None:
            assert float(str(told[5])) == pytest.approx(row.value)
            assert str(told[6][0][0]) == row.ucum
        assert str(told[11]) == ("X" if row.value is None else "P")
    notes = [str(segment[3]) for segment in message.segments("NTE")]
    assert notes[0] == RESEARCH_USE
    assert any(note.startswith("95 % limits (wilson): ") for note in notes)


@pytest.mark.parametrize(("versions", "status"), [(0, "P"), (1, "F"), (2, "C")])
def test_the_status_of_the_order_and_of_its_rows_follows_the_approval(
    versions: int, status: str
) -> None:
    parser = pytest.importorskip("hl7apy.parser", reason="needs hl7apy")
    from hl7apy.consts import VALIDATION_LEVEL

    fields, how = laboratory.fields(PARTIAL), laboratory.counting(PARTIAL)
    signed = laboratory.approval(fields, how, "S~2", "1", versions=versions or 1)
    approvals = {("S~2", "1"): signed} if versions else {}
    result = list(laboratory_results(fields, how, approvals))[1]
    text = hl7_message(result, "1.2.3", TIME)
    assert parser.parse_message(text, validation_level=VALIDATION_LEVEL.STRICT).validate()
    message = parsed(result)
    order = message.segment("OBR")
    assert str(order[25]) == status
    assert {str(row[11]) for row in message.segments("OBX")} == {status, "X"}
    if versions:
        assert str(order[22]) == f"2026020{versions}093000+0000"
        assert str(order[32]) == ("&B. Jones", "&C. Brown")[versions - 1]
        notes = [str(segment[3]) for segment in message.segments("NTE")]
        assert f"Slide 1: {signed.words(signed.versions[-1].rows)}." in notes


def test_names_with_separators_come_back_as_they_were() -> None:
    first, second = results(whole())[:2]
    message = parsed(first)
    assert message.unescape(str(message.segment("OBR")[3])) == "A|1&2^3"
    other = parsed(second)
    assert other.unescape(str(other.segment("SPM")[2])) == "S~2"
    assert str(message.segment("OBR")[25]) == "P"


def test_equal_results_are_equal_messages_and_others_have_another_control_id() -> None:
    first, second = results(whole())[:2]
    one = hl7_message(first, "1.2.3", TIME)
    assert one == hl7_message(first, "1.2.3", TIME)
    ids = {str(parsed(result).segment("MSH")[10]) for result in (first, second)}
    assert len(ids) == 2
    assert all(len(id_) == 20 for id_ in ids)
    assert one.endswith("\r")
    assert "\n" not in one
