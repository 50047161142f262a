"""The models of a run, loaded: what finds cells and, where one is asked for, what types them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from cellcount.analysis.loaded_classifier import LoadedClassifier
from cellcount.engines.base import EngineOptions, choose_engine, load_engine
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.field_detector import FieldDetector
from cellcount.models.weights import resolve, sha256_of
from cellcount.settings import AnalyzeSettings


@dataclass(frozen=True, eq=False, slots=True)
class Models:
    """What a run's settings name.

    Attributes:
        detector: the model on whole fields.
        sha256: of its weight file.
        classifier: None where cells stay untyped.
        typer: the classifier beside this detector, likewise.
    """

    detector: FieldDetector
    sha256: str
    classifier: LoadedClassifier | None
    typer: CellTyper | None

    @classmethod
    def of(cls, settings: AnalyzeSettings) -> Models:
        """Loads them.

        Raises:
            WeightsError: no such model.
            UsageError: they do not go together, or not with this machine.
        """
        weights = resolve(settings.detector)
        options = EngineOptions(
            settings.device,
            settings.precision,
            settings.batch_size,
            settings.plugins,
            settings.refine_steps,
        )
        engine = load_engine(choose_engine(settings.engine), weights, options)
        # --batch-size is a number of tiles; cells have the classifier's own default.
        loaded = LoadedClassifier.beside(
            engine.card, settings.classifier, settings.type_map, replace(options, batch_size=0)
        )
        typer = None
        if loaded is not None:
            typer = CellTyper(loaded.classifier, engine.card, loaded.type_map)
        detector = FieldDetector(engine, settings.tile_px)
        return cls(detector, sha256_of(weights), loaded, typer)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Of all weight files."""
        return (self.sha256, *(() if self.classifier is None else (self.classifier.sha256,)))
