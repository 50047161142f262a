"""The forms in which a run is written besides counts.csv, one entry each.

A new form is a module with a function ``write(path, content)`` and an entry here. A package of
another author offers one by a function without arguments that returns an `OutputForm`, in the
entry-point group ``cellcount.outputs``. The command line, the checks of paths, what a run keeps and
what is written all follow these entries. Nothing heavy is imported: ``--help`` is made of them.
"""

from __future__ import annotations

import importlib.util
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from cellcount.errors import CellcountError, PluginError, UsageError
from cellcount.plugins import OUTPUTS, available, find

if TYPE_CHECKING:
    from cellcount.outputs.columns import TypedTable
    from cellcount.outputs.run_content import RunContent

Write: TypeAlias = "Callable[[Path, RunContent], None]"


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputForm:
    """One form of output.

    Attributes:
        name: of the option, and of the form in what a run keeps.
        help: of the option.
        write: writes it, from the path that was asked for and the content of the run; or
            ``module:function``, which is imported when it is used.
        table: of a form that is a table, what gives its columns and rows from the content of the
            run, as ``module:function``, so that several tables can be sheets of one workbook.
        kind: whether the path is that of a file, or of a folder with a file per image.
        sees: ``final`` types of cells are those that count, a reviewer's before the classifier's;
            ``own`` ones are the classifier's, with the reviews beside them.
        differential: it tells differentials, so that a profile must fit the models, and that a
            shard, which sees a part of the images, cannot write it.
        needs: library that it needs, and the extra that installs it; "" and "" for none.
        for_programs: it is read by other programs rather than by people.
        by_stem: programs find the file of an image by the image's stem alone, so that two images
            of one stem in a folder cannot both have one; they are refused.
        bytes_per_cell: about so many, for the estimate of a dry run.
        suffixes: what the path of a file may end in; none for anything. Tables have their own.
    """

    name: str
    help: str
    write: Write | str
    table: str = ""
    kind: Literal["file", "folder"] = "file"
    sees: Literal["final", "own"] = "final"
    differential: bool = False
    needs: tuple[str, str] = ("", "")
    for_programs: bool = False
    by_stem: bool = False
    bytes_per_cell: int = 0
    suffixes: tuple[str, ...] = ()

    @property
    def option(self) -> str:
        """Option of the command line that asks for it."""
        return (
            f"--{self.name}" if self.name in (COUNTS.name, *BUILT_IN) else f"--output {self.name}"
        )


#: What every run writes.
COUNTS = OutputForm(
    name="out",
    help="Table with one row per image (CSV, .xlsx or .parquet).",
    write="cellcount.outputs.tables:write_counts",
    table="cellcount.outputs.tables:counts_table",
)
#: In the order in which they are written.
FORMS = (
    OutputForm(
        name="cells",
        help="Table with one row per cell (likewise; a sheet of one .xlsx if the names agree).",
        write="cellcount.outputs.tables:write_cells",
        table="cellcount.outputs.tables:cells_table",
        sees="own",
        bytes_per_cell=75,
    ),
    OutputForm(
        name="slides",
        help="Table with the differential of each slide (likewise).",
        write="cellcount.outputs.slides:write_slides",
        table="cellcount.outputs.slides:slides_table",
        differential=True,
    ),
    OutputForm(
        name="coco",
        help="COCO file of all cells.",
        write="cellcount.outputs.coco_export:write_coco",
        sees="own",
        for_programs=True,
        bytes_per_cell=190,
        suffixes=(".json",),
    ),
    OutputForm(
        name="geojson",
        help="Folder for GeoJSON of the cells, for QuPath.",
        write="cellcount.outputs.geojson_export:write_geojson",
        kind="folder",
        for_programs=True,
    ),
    OutputForm(
        name="rois",
        help="Folder for ROI sets of the cells, for ImageJ.",
        write="cellcount.outputs.imagej_export:write_rois",
        kind="folder",
        needs=("roifile", "imagej"),
        for_programs=True,
    ),
    OutputForm(
        name="yolo",
        help="Folder for YOLO labels of the cells.",
        write="cellcount.outputs.yolo_export:write_yolo_labels",
        kind="folder",
        for_programs=True,
        by_stem=True,
    ),
    OutputForm(
        name="voc",
        help="Folder for Pascal VOC annotations of the cells.",
        write="cellcount.outputs.voc_export:write_voc_annotations",
        kind="folder",
        for_programs=True,
    ),
    OutputForm(
        name="fhir",
        help="FHIR R4B Bundle of the differentials.",
        write="cellcount.outputs.fhir:write_fhir",
        differential=True,
        for_programs=True,
    ),
    OutputForm(
        name="hl7",
        help="HL7 v2.5.1 messages (ORU^R01) of the differentials.",
        write="cellcount.outputs.hl7:write_hl7",
        differential=True,
        for_programs=True,
    ),
    OutputForm(
        name="report",
        help="Report of the run as one HTML page.",
        write="cellcount.outputs.report.report:write_report",
        differential=True,
        suffixes=(".html", ".htm"),
    ),
)
BUILT_IN = {form.name: form for form in FORMS}


def form_of(name: str, package: str = "") -> OutputForm:
    """Find a form by its name: one of ours, else a plugin's, which is imported now.

    Args:
        name: of the form.
        package: that offered it to an earlier run, "" where that is not known.

    Raises:
        PluginError: nobody offers it, or not as it should be.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]
    if package and name not in available(OUTPUTS):
        raise PluginError(
            f"the output form {name!r} was written by the plugin {package}, which is not "
            "installed here; install it, then give the same command again"
        )
    build = find(OUTPUTS, name)
    form: Any = _told(name, build)
    if not isinstance(form, OutputForm) or form.name != name:
        found = f"one named {form.name!r}" if isinstance(form, OutputForm) else repr(form)
        raise PluginError(
            f"the output form {name!r} of {_source(name)}: {build.__name__}() returned {found}, "
            f"expected an OutputForm named {name!r}"
        )
    return form


def check_needs(form: OutputForm) -> None:
    """Raise, before hours of work, if a library that a form needs is missing.

    Raises:
        UsageError: the library that it needs is not installed.
    """
    library, extra = form.needs
    if library and importlib.util.find_spec(library) is None:
        raise UsageError(
            f"{form.option} needs {library}, which is not installed; install it with "
            f"pip install 'cellcount[{extra}]', or leave out this form"
        )


def write_form(form: OutputForm, path: Path, content: RunContent) -> None:
    """Write one form.

    Raises:
        OutputError: it cannot be written.
        PluginError: it is a plugin's, and failed in another way.
    """
    write = pkgutil.resolve_name(form.write) if isinstance(form.write, str) else form.write
    if form.name in (COUNTS.name, *BUILT_IN):
        write(path, content)
    else:
        _told(form.name, write, path, content)


def write_together(
    forms: Sequence[OutputForm], path: Path, contents: Mapping[str, RunContent]
) -> None:
    """Write the forms that share a path: one, or tables as the sheets of one workbook.

    Args:
        forms: in the order of their sheets.
        path: the file or folder.
        contents: of the run, by what a form sees.

    Raises:
        OutputError: it cannot be written.
        PluginError: a form is a plugin's, and failed in another way.
    """
    if len(forms) == 1:
        write_form(forms[0], path, contents[forms[0].sees])
        return
    from cellcount.outputs.excel import write_workbook

    write_workbook(path, [table_of(form, contents) for form in forms])


def table_of(form: OutputForm, contents: Mapping[str, RunContent]) -> TypedTable:
    """Give the columns and rows of a form that is a table.

    Args:
        form: one of ours.
        contents: of the run, by what a form sees.
    """
    table: TypedTable = pkgutil.resolve_name(form.table)(contents[form.sees])
    return table


def packages_of(names: Iterable[str]) -> dict[str, str]:
    """Return the package of each form that a plugin offers."""
    plugins = [name for name in names if name not in BUILT_IN]
    offered = available(OUTPUTS) if plugins else {}
    return {name: offered.get(name, "") for name in plugins}


def _told(name: str, function: Callable[..., object], *arguments: object) -> object:
    """Call a plugin's function, and report its exceptions as faults of the plugin."""
    try:
        return function(*arguments)
    except CellcountError:
        raise
    except Exception as error:
        raise PluginError(
            f"the output form {name!r} of {_source(name)} failed with {type(error).__name__}: "
            f"{error}; run again with --debug to see where, or leave out this form"
        ) from error


def _source(name: str) -> str:
    return available(OUTPUTS).get(name, "a plugin")
