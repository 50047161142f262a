"""Checks of an analyze request that need no model, so that a mistake is reported at once.

Neither torch nor anything that imports it is imported here: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cellcount.analysis.earlier_outputs import RenewedOutputs, with_earlier_outputs
from cellcount.analysis.earlier_run import known_names
from cellcount.analysis.inputs import plan_of
from cellcount.analysis.output_files import OutputFiles
from cellcount.differential.profile import load_profile
from cellcount.images.copies import without_copies
from cellcount.images.find import Plan
from cellcount.images.stain_reference import StainReference, load_stain_reference
from cellcount.models.weights import read_card, read_classifier_card, resolve
from cellcount.outputs.pseudonyms import OutputNames
from cellcount.settings import AUTO_CLASSIFIER, NO_CLASSIFIER, AnalyzeRequest


@dataclass(frozen=True, eq=False, slots=True)
class CheckedRequest:
    """A request whose inputs, outputs and models exist and fit together.

    Attributes:
        request: as asked for, plus the outputs of an earlier run that are written again.
        renewed: those outputs.
        files: every file that the run writes.
        names: of images, as outputs call them.
        known_names: names of INPUTs in an earlier run, with the real paths that they stood for.
        plan: the images, each once.
        stain: reference to which fields are brought, None where they stay as they are.
    """

    request: AnalyzeRequest
    renewed: RenewedOutputs
    files: OutputFiles
    names: OutputNames
    known_names: Mapping[str, str]
    plan: Plan
    stain: StainReference | None

    @classmethod
    def of(cls, request: AnalyzeRequest) -> CheckedRequest:
        """Check a request; nothing is written.

        Raises:
            UsageError: inputs and outputs do not fit together, or there is no such profile.
            WeightsError: no such model, or one of another kind.
            CellcountError: there is no image.
        """
        is_shard = request.run.shard is not None
        renewed = with_earlier_outputs(request.output, shard=is_shard)
        request = replace(request, output=renewed.settings)
        output, settings = request.output, request.analyze
        files = OutputFiles(output)
        files.check_forms(shard=is_shard)
        names = OutputNames(output.pseudonymize, files.every(), files.folders)
        known = {} if request.run.fresh else known_names(files.journal)
        plan = plan_of(
            request.inputs,
            files.every(),
            um_per_px=settings.um_per_px,
            annotated=output.annotated,
            slide_from=request.slide_from,
            known=known,
        )
        plan = without_copies(plan)
        files.check_stems(names.image(ref.image) for ref in plan.refs)
        stain = load_stain_reference(settings.stain_reference)
        _check_models(request)
        return cls(request, renewed, files, names, known, plan, stain)


def _check_models(request: AnalyzeRequest) -> None:
    """Raise if a model or profile that is named is missing or of another kind."""
    read_card(resolve(request.analyze.detector))
    if request.analyze.classifier not in (AUTO_CLASSIFIER, NO_CLASSIFIER):
        read_classifier_card(resolve(request.analyze.classifier))
    if request.differential.profile is not None:
        load_profile(request.differential.profile)
