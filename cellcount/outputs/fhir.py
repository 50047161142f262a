"""Differentials as a FHIR R4B Bundle: a DiagnosticReport per specimen, an Observation per row.

The Bundle is a collection with everything that it refers to, and a pure function of the results:
its ids are made from names, and it tells no time but that of an approval. Results are preliminary
until people have signed the slides that they rest on.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cellcount.files.atomic import atomic_write
from cellcount.files.text import encodable
from cellcount.outputs.laboratory_results import (
    METHOD,
    RESEARCH_USE,
    LaboratoryResult,
    ResultRow,
    SignOff,
    absent_because,
    laboratory_results,
    stated,
)
from cellcount.outputs.run_content import RunContent

Json = dict[str, Any]

#: Of cellcount's own codes: the kind and id of a row in slides.csv.
OWN_SYSTEM = "urn:uuid:9a0d3c55-35cb-5c1f-8c3d-0c1c0f9fd3b4"
LOINC, UCUM = "http://loinc.org", "http://unitsofmeasure.org"
_TERMS = "http://terminology.hl7.org/CodeSystem"
_NAMESPACE = uuid.UUID("9a0d3c55-35cb-5c1f-8c3d-0c1c0f9fd3b4")
#: Why there is no value → HL7's code for it.
_ABSENT = {
    "not assessed": "unsupported",
    "pooled": "unsupported",
    "withheld": "unsupported",
    "not counted": "not-performed",
}


def write_fhir(path: Path, content: RunContent) -> None:
    """Write the Bundle.

    Raises:
        OutputError: the file cannot be written, or a specimen has several accession numbers.
    """
    facts, counting = content.facts, content.facts.counting
    results = list(
        laboratory_results(counting.fields(content.results()), counting, facts.approvals)
    )
    bundle = fhir_bundle(results, facts.versions.get("cellcount", ""), counting.models)
    with atomic_write(path) as file:
        file.write(json.dumps(bundle, ensure_ascii=False, allow_nan=False, indent=1).encode())
        file.write(b"\n")


def fhir_bundle(
    results: Sequence[LaboratoryResult], version: str, models: Mapping[str, str]
) -> Json:
    """The Bundle of some results.

    Args:
        results: of specimens.
        version: of cellcount, "" where it is not known.
        models: what to say of the models, name → text.
    """
    device = _entry("device", _device(version, models))
    entries = [device]
    for result in results:
        entries.extend(_entries(result, device["fullUrl"]))
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def _entry(name: str, resource: Json) -> Json:
    id_ = str(uuid.uuid5(_NAMESPACE, name))
    return {
        "fullUrl": f"urn:uuid:{id_}",
        "resource": {"resourceType": resource["resourceType"], "id": id_, **resource},
    }


def _device(version: str, models: Mapping[str, str]) -> Json:
    notes = [{"text": encodable(f"{name}: {text}")} for name, text in models.items() if text]
    return {
        "resourceType": "Device",
        "deviceName": [{"name": "cellcount", "type": "model-name"}],
        **({"version": [{"value": version}]} if version else {}),
        **({"note": notes} if notes else {}),
    }


def _entries(result: LaboratoryResult, device: str) -> Iterator[Json]:
    """The specimen, its report and the report's observations."""
    who = f"{result.panel}\n{result.specimen}"
    if result.is_slide:  # which a specimen may be called as well
        who = f"slide\n{who}"
    specimen = _entry(f"specimen\n{who}", _specimen(result))
    refers = {"specimen": {"reference": specimen["fullUrl"]}}
    observations = [
        _entry(f"{row.id}\n{who}", _observation(row, result, device) | refers)
        for row in result.rows
    ]
    report = {
        "resourceType": "DiagnosticReport",
        **({"identifier": [{"value": result.accession}]} if result.accession else {}),
        "status": result.sign_off.status,
        "category": [{"coding": [{"system": f"{_TERMS}/v2-0074", "code": "HM"}]}],
        "code": _code(result.panel, result.title),
        "specimen": [refers["specimen"]],
        **_signed(result.sign_off),
        "result": [{"reference": one["fullUrl"]} for one in observations],
        "conclusion": "\n".join(result.notes),
    }
    yield specimen
    yield _entry(f"report\n{who}", report)
    yield from observations


def _signed(sign_off: SignOff) -> Json:
    """Tell when the report was issued, and by whom; nothing of a preliminary one."""
    if sign_off.status == "preliminary":
        return {}
    people = [{"display": person} for person in sign_off.people]
    return {"issued": sign_off.at, "resultsInterpreter": people}


def _specimen(result: LaboratoryResult) -> Json:
    accession = {"accessionIdentifier": {"value": result.accession}} if result.accession else {}
    return {
        "resourceType": "Specimen",
        "identifier": [{"value": result.specimen}],
        **accession,
        "type": {"text": result.specimen_type},
    }


def _observation(row: ResultRow, result: LaboratoryResult, device: str) -> Json:
    notes = [RESEARCH_USE, *stated(row, result.limits)]
    observation: Json = {
        "resourceType": "Observation",
        "status": result.sign_off.status,
        "category": [
            {"coding": [{"system": f"{_TERMS}/observation-category", "code": "laboratory"}]}
        ],
        "code": _code(row.id, row.name, row),
        "method": {"text": METHOD},
        "device": {"reference": device},
        "note": [{"text": text} for text in notes],
    }
    if row.value is None:
        code = _ABSENT.get(row.assessment, "unknown")
        observation["dataAbsentReason"] = {
            "coding": [{"system": f"{_TERMS}/data-absent-reason", "code": code}],
            "text": absent_because(row),
        }
    else:
        observation["valueQuantity"] = _quantity(row.value, row)
    if components := list(_components(row)):
        observation["component"] = components
    return observation


def _components(row: ResultRow) -> Iterator[Json]:
    """Limits and counts as numbers of their own."""
    if row.limits is not None:
        for name, limit in (("low", row.limits.low), ("high", row.limits.high)):
            if limit is not None:
                code = _code(f"limit.{name}", f"{'lower' if name == 'low' else 'upper'} limit")
                yield {"code": code, "valueQuantity": _quantity(round(limit, 4), row)}
    for name, count in (("n", row.n), ("denominator", row.denominator)):
        if count is not None:
            yield {"code": _code(f"count.{name}", name), "valueInteger": count}


def _quantity(value: float, row: ResultRow) -> Json:
    return {"value": value, "unit": row.unit, "system": UCUM, "code": row.ucum}


def _code(own: str, name: str, row: ResultRow | None = None) -> Json:
    coding = [{"system": OWN_SYSTEM, "code": own, "display": name}]
    if row is not None and row.loinc is not None:
        loinc = {"system": LOINC, "code": row.loinc.code, "display": row.loinc.name}
        coding.insert(0, loinc)
    return {"coding": coding, "text": name}
