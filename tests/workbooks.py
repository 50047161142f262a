"""Small spreadsheet files, written as spreadsheets write them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

Cell = str | float | None
#: First row and column, last row and column, from 0.
Merged = tuple[int, int, int, int]
_XLSX = "http://schemas.openxmlformats.org"
_ODS = "urn:oasis:names:tc:opendocument:xmlns"


def write_xlsx(
    path: Path,
    sheets: Mapping[str, Sequence[Sequence[Cell]]],
    *,
    merged: Sequence[Merged] = (),
) -> Path:
    """An Excel workbook; empty rows are left out of the file, as Excel does.

    Args:
        path: the file.
        sheets: name → rows.
        merged: cells that are merged in every sheet.
    """
    ranges = "".join(
        f'<mergeCell ref="{chr(65 + left)}{top + 1}:{chr(65 + right)}{bottom + 1}"/>'
        for top, left, bottom, right in merged
    )
    ranges = f"<mergeCells>{ranges}</mergeCells>" if ranges else ""
    names = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"/>'
        for n, name in enumerate(sheets, 1)
    )
    related = "".join(
        f'<Relationship Id="rId{n}" Type="{_XLSX}/officeDocument/2006/relationships/worksheet" '
        f'Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{_XLSX}/package/2006/content-types">'
            '<Default Extension="xml" ContentType="application/xml"/></Types>',
        )
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_XLSX}/package/2006/relationships"><Relationship Id="rId1" '
            f'Type="{_XLSX}/officeDocument/2006/relationships/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        archive.writestr(
            "xl/workbook.xml",
            f'<workbook xmlns="{_XLSX}/spreadsheetml/2006/main" '
            f'xmlns:r="{_XLSX}/officeDocument/2006/relationships"><sheets>{names}</sheets>'
            "</workbook>",
        )
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{_XLSX}/package/2006/relationships">{related}</Relationships>',
        )
        for n, rows in enumerate(sheets.values(), 1):
            archive.writestr(
                f"xl/worksheets/sheet{n}.xml",
                f'<worksheet xmlns="{_XLSX}/spreadsheetml/2006/main"><sheetData>'
                f"{''.join(_excel_row(at, row) for at, row in enumerate(rows, 1) if any(row))}"
                f"</sheetData>{ranges}</worksheet>",
            )
    return path


def _excel_row(at: int, row: Sequence[Cell]) -> str:
    cells = ""
    for column, value in enumerate(row):
        place = f"{chr(65 + column)}{at}"
        if isinstance(value, str):
            cells += f'<c r="{place}" t="inlineStr"><is><t>{escape(value)}</t></is></c>'
        elif value is not None:
            cells += f'<c r="{place}"><v>{value!r}</v></c>'
    return f'<row r="{at}">{cells}</row>'


def write_ods(
    path: Path,
    sheets: Mapping[str, Sequence[Sequence[Cell]]],
    *,
    merged: Sequence[Merged] = (),
) -> Path:
    """A LibreOffice workbook; it ends in a million repeated empty rows, as LibreOffice's do.

    Args:
        path: the file.
        sheets: name → rows.
        merged: cells that are merged in every sheet.
    """
    tables = "".join(
        f'<table:table table:name="{escape(name)}">'
        f"{''.join(_ods_row(at, row, merged) for at, row in enumerate(rows))}"
        '<table:table-row table:number-rows-repeated="1048000">'
        '<table:table-cell table:number-columns-repeated="16384"/></table:table-row></table:table>'
        for name, rows in sheets.items()
    )
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml",
            f'<manifest:manifest xmlns:manifest="{_ODS}:manifest:1.0"><manifest:file-entry '
            'manifest:full-path="/" '
            'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/>'
            "</manifest:manifest>",
        )
        archive.writestr(
            "content.xml",
            f'<office:document-content xmlns:office="{_ODS}:office:1.0" '
            f'xmlns:table="{_ODS}:table:1.0" xmlns:text="{_ODS}:text:1.0"><office:body>'
            f"<office:spreadsheet>{tables}</office:spreadsheet></office:body>"
            "</office:document-content>",
        )
    return path


def _ods_row(at: int, row: Sequence[Cell], merged: Sequence[Merged]) -> str:
    cells = ""
    spans = {m[:2]: (m[2] - m[0] + 1, m[3] - m[1] + 1) for m in merged}
    for column, value in enumerate(row):
        tall, wide = spans.get((at, column), (1, 1))
        spanned = (
            f' table:number-rows-spanned="{tall}" table:number-columns-spanned="{wide}"'
            if (tall, wide) != (1, 1)
            else ""
        )
        if isinstance(value, str):
            cells += (
                f'<table:table-cell{spanned} office:value-type="string">'
                f"<text:p>{escape(value)}</text:p></table:table-cell>"
            )
        elif value is None:
            cells += "<table:table-cell/>"
        else:
            cells += (
                f'<table:table-cell{spanned} office:value-type="float" office:value="{value!r}">'
                f"<text:p>{value!r}</text:p></table:table-cell>"
            )
    return f"<table:table-row>{cells}</table:table-row>"
