"""Loaded models of a run: the detector and, where one is asked for, the classifier."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellcount.core.records import CellClass
from cellcount.engines.base import (
    CellClassifier,
    Engine,
    EngineOptions,
    load_classifier,
    load_engine,
)
from cellcount.engines.cell_typer import CellTyper
from cellcount.engines.field_detector import FieldDetector
from cellcount.engines.type_map import TypeMap, type_map
from cellcount.errors import UsageError
from cellcount.files.digest import sha256_of
from cellcount.models.classifier_card import ClassifierCard
from cellcount.models.weights import packaged_weights, resolve
from cellcount.settings import AUTO_CLASSIFIER, NO_CLASSIFIER, AnalyzeSettings


@dataclass(frozen=True, eq=False, slots=True)
class Models:
    """Models that the settings of a run name.

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
        """Load the models that the settings name.

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
        engine = load_engine(settings.engine, weights, options)
        # --batch-size is a number of tiles; cells have the classifier's own default.
        loaded = LoadedClassifier.beside(
            engine, settings.classifier, settings.type_map, replace(options, batch_size=0)
        )
        typer = None
        if loaded is not None:
            typer = CellTyper(loaded.classifier, engine.card, loaded.type_map)
        detector = FieldDetector(engine, settings.tile_px)
        return cls(detector, sha256_of(weights), loaded, typer)

    @property
    def hashes(self) -> tuple[str, ...]:
        """Hashes of all weight files."""
        return (self.sha256, *(() if self.classifier is None else (self.classifier.sha256,)))


@dataclass(frozen=True, eq=False, slots=True)
class LoadedClassifier:
    """A classifier ready to type cells.

    Attributes:
        classifier: the model.
        sha256: of its weight file.
        map_name: ``SOURCE:TARGET`` as asked for, or None.
        type_map: from its types to the reported ones, M.
    """

    classifier: CellClassifier
    sha256: str
    map_name: str | None
    type_map: TypeMap

    @classmethod
    def of(
        cls, name: str, map_name: str | None, options: EngineOptions, engine: str = "auto"
    ) -> LoadedClassifier:
        """The classifier of a packaged name, a weight file or a run folder, run by that engine.

        Raises:
            WeightsError: there is none, or it is no classifier.
            UsageError: the mapping does not start from its types.
        """
        weights = resolve(name)
        classifier = load_classifier(engine, weights, options)
        mapped = type_map(classifier.card, map_name)
        return cls(classifier, sha256_of(weights), map_name, mapped)

    @classmethod
    def beside(
        cls, engine: Engine, name: str, map_name: str | None, options: EngineOptions
    ) -> LoadedClassifier | None:
        """The classifier that types the cells of a detector, None where nothing does.

        Args:
            engine: runs the detector, whose card may name a packaged classifier and no other;
                runs the classifier, too.
            name: as asked for: a packaged name, a path, ``none`` or ``auto``.
            map_name: ``SOURCE:TARGET`` as asked for, or None.
            options: of the classifier.

        Raises:
            UsageError: a mapping is asked for, and nothing types the cells.
        """
        detector = engine.card
        if name == AUTO_CLASSIFIER:
            name = detector.classifier if detector.classifier in packaged_weights() else ""
        if name not in ("", NO_CLASSIFIER):
            return cls.of(name, map_name, options, engine.name)
        if map_name is not None:
            raise UsageError(
                f"--map {map_name} translates types, but no classifier goes with the detector "
                f"{detector.name!r}; name one with --classifier, or leave out --map"
            )
        return None

    @property
    def card(self) -> ClassifierCard:
        """Card of the classifier."""
        return self.classifier.card

    @property
    def types(self) -> tuple[CellClass, ...]:
        """The reported types."""
        return self.type_map.types

    @property
    def least_probs(self) -> NDArray[np.float32]:
        """Least probability (M,) at which a cell is counted as each reported type."""
        return self.type_map.least_probs(self.card)

    def facts(self) -> dict[str, Any]:
        """Facts of the classifier that decide types, JSON-ready: for the journal and run.json."""
        own = self.card.review_below_of
        return {
            "name": self.card.name,
            "version": self.card.version,
            "sha256": self.sha256,
            "detector_classes": list(self.card.detector_classes),
            "map": self.map_name,
            "types": [t.id for t in self.types],
            "review_below": self.card.review_below,
            **({"review_below_of": own} if own else {}),
            "precision": self.classifier.precision,
            "batch_size": self.classifier.batch_size,
        }
