"""The FHIR Bundle is valid R4B, and its numbers are those of the differential."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cellcount.differential.figures import Rules, TypeRows
from cellcount.differential.rollup import roll_up
from cellcount.errors import OutputError
from cellcount.outputs.fhir import LOINC, OWN_SYSTEM, fhir_bundle
from cellcount.outputs.laboratory_results import RESEARCH_USE, laboratory_results
from cellcount.store.approvals import SlideApproval
from tests.unit.outputs import laboratory
from tests.unit.outputs.laboratory import PARTIAL, whole

Json = dict[str, Any]


def bundle(types: tuple[TypeRows, ...], rules: Rules | None = None) -> Json:
    counting = laboratory.counting(types, rules)
    results = list(laboratory_results(laboratory.fields(types), counting))
    return fhir_bundle(results, "1.2.3", counting.models)


def of_type(document: Json, name: str) -> list[Json]:
    resources = [entry["resource"] for entry in document["entry"]]
    return [resource for resource in resources if resource["resourceType"] == name]


def own(observation: Json) -> str:
    return str(observation["code"]["coding"][-1]["code"])


def loinc(observation: Json) -> str:
    codes = [c["code"] for c in observation["code"]["coding"] if c["system"] == LOINC]
    return str(codes[0]) if codes else ""


def observations(document: Json, specimen: int = 0) -> dict[str, Json]:
    """Observations of a report, by cellcount's own code."""
    by_url = {entry["fullUrl"]: entry["resource"] for entry in document["entry"]}
    report = of_type(document, "DiagnosticReport")[specimen]
    return {own(o): o for o in (by_url[r["reference"]] for r in report["result"])}


@pytest.mark.parametrize("types", [whole(), PARTIAL, ()])
def test_the_bundle_is_valid_r4b(types: tuple[TypeRows, ...]) -> None:
    library = pytest.importorskip("fhir.resources.R4B.bundle", reason="needs fhir.resources")
    document = bundle(types)
    read = library.Bundle.model_validate(document)
    assert len(read.entry) == len(document["entry"])


def test_everything_referred_to_is_in_the_bundle_under_its_own_id() -> None:
    document = bundle(whole())
    urls = [entry["fullUrl"] for entry in document["entry"]]
    assert len(set(urls)) == len(urls)
    assert all(e["fullUrl"] == f"urn:uuid:{e['resource']['id']}" for e in document["entry"])

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            own = [node["reference"]] if "reference" in node else []
            return own + [r for value in node.values() for r in references(value)]
        return [r for value in node for r in references(value)] if isinstance(node, list) else []

    assert set(references(document)) <= set(urls)


def test_a_model_whose_file_name_is_no_unicode_is_told_in_valid_utf_8() -> None:
    (device,) = of_type(fhir_bundle([], "1.2.3", {"detector": "caf\udce9.pt"}), "Device")
    assert device["note"] == [{"text": "detector: caf\\udce9.pt"}]


def test_a_slide_that_is_called_as_a_specimen_is_a_resource_of_its_own() -> None:
    fields = [*laboratory.fields(PARTIAL)]
    same = replace(fields[3], ref=replace(fields[3].ref, slide="S 1"))
    found = laboratory_results([*fields, same], laboratory.counting(PARTIAL))
    document = fhir_bundle(list(found), "1.2.3", {})
    urls = [entry["fullUrl"] for entry in document["entry"]]
    assert len(set(urls)) == len(urls)
    told = [one["identifier"][0]["value"] for one in of_type(document, "Specimen")]
    assert told.count("S 1") == 2


def test_numbers_and_limits_are_those_of_the_differential() -> None:
    types = whole()
    counting = laboratory.counting(types)
    unit = next(u for u in roll_up(laboratory.fields(types)) if u.level == "specimen")
    found = observations(bundle(types))
    for figure in counting.of(unit).of_kind("class", "group"):
        told = found[f"{figure.kind}.{figure.id}"]
        if figure.value is None or figure.limits is None:
            assert figure.note == "outside the denominator"
            continue
        assert told["valueQuantity"]["value"] == round(figure.value, 4)
        assert told["valueQuantity"]["code"] == "%"
        parts = {own(c): c for c in told["component"]}
        assert parts["limit.low"]["valueQuantity"]["value"] == round(figure.limits.low, 4)
        assert parts["count.n"]["valueInteger"] == figure.n
        assert parts["count.denominator"]["valueInteger"] == figure.denominator
    monocytes = found["class.monocytes.absolute"]
    assert monocytes["valueQuantity"]["code"] == "10*9/L"
    assert loinc(monocytes) == "26484-6"
    assert loinc(found["class.monocytes"]) == "26485-3"


def test_what_loinc_has_no_sure_code_for_goes_out_with_our_own_code_alone() -> None:
    found = observations(bundle(whole()))
    for name in ("outside.smudge_cells", "measure.nrbc_per_100", "lineage.lymphopoiesis"):
        assert loinc(found[name]) == "", name
        assert found[name]["code"]["coding"][0]["system"] == OWN_SYSTEM


@pytest.mark.parametrize(("types", "rules"), [(PARTIAL, Rules()), (whole(), Rules(forced=True))])
def test_percentages_of_assessed_cells_or_of_a_forced_profile_have_no_code_of_loinc(
    types: tuple[TypeRows, ...], rules: Rules
) -> None:
    document = bundle(types, rules)
    assert not any(loinc(o) for o in of_type(document, "Observation"))


def test_what_was_not_assessed_has_no_value_and_says_so() -> None:
    found = observations(bundle(PARTIAL))
    blasts = found["class.blasts"]
    assert "valueQuantity" not in blasts
    assert blasts["dataAbsentReason"]["text"] == "not assessed"
    failed = observations(bundle(PARTIAL), specimen=3)
    assert failed["class.lymphocytes"]["dataAbsentReason"]["text"] == "not counted"


def test_specimens_carry_their_ids_and_every_result_is_preliminary_and_for_research() -> None:
    document = bundle(whole())
    reports, specimens = of_type(document, "DiagnosticReport"), of_type(document, "Specimen")
    told = [s["identifier"][0]["value"] for s in specimens]
    assert told == ["S 1", "S~2", "\\udcff", "e"]
    assert specimens[0]["accessionIdentifier"] == {"value": "A|1&2^3"}
    assert reports[0]["identifier"] == [{"value": "A|1&2^3"}]
    assert "accessionIdentifier" not in specimens[1]
    results = [*reports, *of_type(document, "Observation")]
    assert {r["status"] for r in results} == {"preliminary"}
    assert all(RESEARCH_USE in r["conclusion"] for r in reports)


def test_a_result_is_preliminary_until_all_its_slides_are_signed_then_final_or_amended() -> None:
    library = pytest.importorskip("fhir.resources.R4B.bundle", reason="needs fhir.resources")
    how = laboratory.counting(PARTIAL)
    fields = laboratory.fields(PARTIAL)
    fields[1] = replace(fields[1], ref=replace(fields[1].ref, slide="2"))  # of the first specimen
    one, two = (laboratory.approval(fields, how, "S 1", slide) for slide in ("1", "2"))
    amended = laboratory.approval(fields, how, "S~2", "1", versions=2)
    approvals = {("S 1", "1"): one, ("S~2", "1"): amended}

    def reports(found: dict[tuple[str, str], SlideApproval]) -> list[Json]:
        told = fhir_bundle(list(laboratory_results(fields, how, found)), "1", {})
        assert len(library.Bundle.model_validate(told).entry) == len(told["entry"])
        documents = of_type(told, "DiagnosticReport")
        for at, report in enumerate(documents):
            rows = observations(told, at).values()
            assert {row["status"] for row in rows} == {report["status"]}
        return documents

    first, second, third, _ = reports(approvals)
    assert first["status"] == "preliminary", "one of its two slides is not signed"
    assert "Slide 1: approved by B. Jones, 2026-02-01T09:30:00+00:00." in first["conclusion"]
    assert "issued" not in first
    assert second["status"] == "amended"
    assert second["resultsInterpreter"] == [{"display": "C. Brown"}]
    assert second["issued"] == "2026-02-02T09:30:00+00:00"
    assert third["status"] == "preliminary"
    first = reports({**approvals, ("S 1", "2"): two})[0]
    assert first["status"] == "final"
    assert first["resultsInterpreter"] == [{"display": "B. Jones"}]


def test_numbers_that_changed_or_were_reopened_since_are_preliminary_again() -> None:
    how, fields = laboratory.counting(PARTIAL), laboratory.fields(PARTIAL)
    signed = laboratory.approval(fields, how, "S~2", "1")
    reopened = SlideApproval(signed.versions, ("A. Smith", "2026-02-03T09:30:00+00:00", "a doubt"))
    stale = SlideApproval((replace(signed.versions[0], rows=signed.versions[0].rows[1:]),))
    for approval, why in ((reopened, "was reopened by A. Smith"), (stale, "numbers have changed")):
        result = list(laboratory_results(fields, how, {("S~2", "1"): approval}))[1]
        assert result.sign_off.status == "preliminary"
        assert why in "\n".join(result.notes)
    unfinished = [*fields, replace(fields[2], ref=replace(fields[2].ref, image="f"))]
    unfinished[-1] = replace(unfinished[-1], status="outstanding")
    now = laboratory.approval(unfinished, how, "S~2", "1")
    result = list(laboratory_results(unfinished, how, {("S~2", "1"): now}))[1]
    assert result.sign_off.status == "preliminary", "a field has no result yet"


def test_a_specimen_of_two_orders_is_refused() -> None:
    fields = laboratory.fields(PARTIAL)
    other = laboratory.fields(PARTIAL, accession="B 7")[0]
    with pytest.raises(OutputError, match=r"specimen S 1 has the accession numbers A\|1&2\^3, B 7"):
        list(laboratory_results([*fields, other], laboratory.counting(PARTIAL)))
