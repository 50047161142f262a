"""Names by which people call the rows of a differential: abbreviations, plurals, local forms.

Sheets of a laboratory and corrections in a spreadsheet are read by them. A profile adds those of
its own laboratory in its table ``[synonyms]``.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

#: Row, or another usual class → what it is called besides; letter case and a final s do not matter.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "segmented_neutrophils": (
        "seg", "segm", "sne", "ngs", "polys", "pmn", "segmented", "neutrophils segmented",
        "seg neutrophils", "segs neutrophils", "mature neutrophils", "segmentkernige",
        "segmentkernige neutrophile", "polynucléaires neutrophiles", "segmentados",
        "neutrófilos segmentados", "segmentati",
    ),
    "band_forms": (
        "band", "bands", "bne", "ngb", "stab", "band neutrophils", "band cells", "bandform",
        "neutrophils band", "stabkernige", "stabkernige neutrophile", "cayados", "bastonetes",
    ),
    "neutrophils": ("neu", "neut", "neutro", "neutrophile", "neutrófilos", "neutrofili"),
    "lymphocytes": (
        "lym", "lymph", "lympho", "ly", "lyt", "lymphozyten", "linfocitos", "linfócitos",
        "linfociti",
    ),
    "monocytes": ("mon", "mono", "mo", "monozyten", "monocitos", "monócitos", "monociti"),
    "eosinophils": ("eo", "eos", "eosin", "eosino", "eosinophile", "eosinófilos", "eosinofili"),
    "basophils": ("ba", "bas", "baso", "basophile", "basófilos", "basofili"),
    "metamyelocytes": ("meta", "mmy", "mmz", "metas", "metamyelozyten", "metamielocitos"),
    "myelocytes": ("myelo", "my", "myb", "myelozyten", "mielocitos"),
    "promyelocytes": ("promyelo", "pmy", "pmo", "promyelozyten", "promielocitos"),
    "immature_granulocytes": ("ig", "immature grans", "unreife granulozyten"),
    "blasts": ("bl", "bla", "blast", "blast cells", "blasten", "blastos"),
    "plasma_cells": ("plasma", "pc", "plm", "plasmazellen", "plasmocytes"),
    "mast_cells": ("mast", "mastzellen"),
    "nucleated_red_cells": (
        "nrbc", "nucleated rbc", "normoblasts", "nucleated red blood cells", "normoblasten",
    ),
    "erythroblasts": ("erb", "ebo", "erythro", "erythroblasten", "eritroblastos"),
    "smudge_cells": ("smudge", "smudges", "gumprecht", "basket cells", "kernschatten"),
    "platelets": ("plt", "thrombocytes", "thrombozyten", "plaquettes", "plaquetas"),
    "artefacts": ("artifact", "art"),
    "not_identifiable": ("unidentified", "nif", "not identified", "unidentifiable"),
}  # fmt: skip
_NEAR = 0.8  # as like as a slip of the pen leaves two names


def plain(name: str) -> str:
    """A name as it is compared: ``Segmented neutrophils`` is ``segmented_neutrophil``."""
    return "_".join(re.findall(r"[^\W_]+", name.casefold())).removesuffix("s")


class RowNames:
    """Names of rows with all that they are called besides.

    Args:
        more: row → further names of it, of a profile.
    """

    def __init__(self, more: Mapping[str, Iterable[str]] | None = None) -> None:
        self._row_of: dict[str, str] = {}
        for table in (SYNONYMS, more or {}):
            for row, names in table.items():
                self._row_of |= {plain(name): row for name in (row, *names)}

    def row_of(self, name: str) -> str:
        """The row that a name means; "" where nobody calls one so."""
        return self._row_of.get(plain(name), "")

    def names_of(self, row: str) -> tuple[str, ...]:
        """All names of a row, as they are compared."""
        return tuple(name for name, of in self._row_of.items() if of == row)

    def near(self, name: str, others: Iterable[str] = ()) -> str:
        """The name that another one is nearly, of these others or of a row; "" for none.

        Args:
            name: that means nothing.
            others: names besides those of rows, as they are spelled.
        """
        spelled = {known: row.replace("_", " ") for known, row in self._row_of.items()}
        spelled |= {plain(other): other for other in others}
        # A slip changes a letter or adds one; what is longer or shorter is another word (lymphoid).
        wanted = plain(name)
        like = [known for known in spelled if abs(len(known) - len(wanted)) <= 1]
        close = difflib.get_close_matches(wanted, like, n=1, cutoff=_NEAR)
        return spelled[close[0]] if close else ""
