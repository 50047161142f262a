"""Merging the shards of a run: checked to belong together, then written as one run would have.

Their results go into a journal of their own beside the merged table, so that everything which
works on a run's output, a review for instance, works on that of a merge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter

from cellcount.analysis.counting_setup import profile_facts
from cellcount.analysis.earlier_outputs import with_earlier_outputs
from cellcount.analysis.outcome import Outcome
from cellcount.analysis.output_files import OutputFiles
from cellcount.analysis.run_outputs import RunOutputs, Written
from cellcount.analysis.shard_record import ShardFacts
from cellcount.analysis.slide_scales import SCALE_PREFIX, slide_in_words
from cellcount.analysis.stored_run import StoredRun
from cellcount.core.records import CellClass, ImageRef, path_order
from cellcount.errors import JournalError, UsageError
from cellcount.files.locks import locked
from cellcount.files.text import listed
from cellcount.images.find import PassedOver, Plan
from cellcount.outputs.pseudonyms import OutputNames
from cellcount.outputs.run_record import RunRecord, write_run_manifest
from cellcount.settings import OutputSettings
from cellcount.store.changed_settings import Json, differences
from cellcount.store.edits import Edit
from cellcount.store.journal import JOURNAL_SUFFIX, Journal, journal_path
from cellcount.store.remarks import Remark

_MERGED = "merged"
_SHOWN = 5


@dataclass(frozen=True, eq=False, slots=True)
class _Shard:
    """A shard as its journal describes it, without its results."""

    path: Path
    number: int
    count: int
    settings: dict[str, Json]
    facts: ShardFacts
    run: StoredRun
    scales: dict[str, Json]
    left: int
    edits: list[Edit]
    remarks: list[Remark]


class MergeJob:
    """The outputs of all shards of a run, ready to be merged; nothing is written before ``run``.

    Args:
        shards: each shard's ``--out`` table, its journal, or a folder with journals.
        output: where the merged results go.

    Raises:
        UsageError: nothing to merge there.
        JournalError: they do not belong together, or one is missing, double, or not finished.
    """

    def __init__(self, shards: Sequence[str], output: OutputSettings) -> None:
        self._renewed = with_earlier_outputs(output)
        output = self.output = self._renewed.settings
        self._shards = sorted(
            map(_read, _journals(shards, output.out)), key=lambda s: (s.number, s.path)
        )
        packages = {n: package for s in self._shards for n, package in s.run.packages.items()}
        self.files = OutputFiles(output, packages)
        self.files.check_forms()
        self.names = OutputNames(output.pseudonymize, self.files.every(), self.files.folders)
        _check_complete(self._shards)
        _check_alike(self._shards)
        self._scales = _common_scales(self._shards)
        self._refs = tuple(
            sorted(
                (_located(ref, shard.run) for shard in self._shards for ref in shard.run.refs),
                key=lambda ref: path_order(ref.image),
            )
        )
        self.files.check_stems(self.names.image(ref.image) for ref in self._refs)

    @property
    def classes(self) -> Sequence[CellClass]:
        """Classes of the detector."""
        return self._shards[0].run.facts.counting.classes

    def run(self) -> tuple[Outcome, Sequence[CellClass]]:
        """Merge the journals, then write every output.

        Returns:
            What came of it, and the types that cells have.

        Raises:
            OutputError: an output cannot be written.
            JournalError: a journal is in use, or the place of the merged one is taken.
        """
        started, began, output = datetime.now(UTC), perf_counter(), self.output
        self.files.check()
        first = self._shards[0]
        facts = replace(first.run.facts, images=len(self._refs))
        outputs = RunOutputs(self.files, self.names, facts)
        plan = Plan(self._refs, tuple(PassedOver(Path(p), r) for p, r in first.facts.passed_over))
        self.names.keep(plan.refs, first.facts.record["settings"].get("slide_from") or "")
        with self._merged() as journal, locked(self.files.tables):
            stored = StoredRun(output, facts, self._refs, Path.cwd(), first.run.profile_toml)
            stored.keep(journal)
            written = outputs.write(journal, outputs.results(journal, self._refs))
        outcome = Outcome(
            images=len(self._refs),
            totals=written.totals,
            written=(*written.tables, *self.files.folders, self.files.record),
            seconds=perf_counter() - began,
            analyzed_now=0,
            notes=(*outputs.notes(written), *self._renewed.notes),
        )
        write_run_manifest(self.files.record, self._record(outcome, written, started, plan))
        return outcome, outputs.reviewed_by(written.reviewed).facts.types

    def _merged(self) -> Journal:
        """The journal with the results of all shards, in place of an earlier merge."""
        path = self.files.journal
        if path.exists():
            with Journal.reopen(path) as before:
                if before.get_value(_MERGED) is None:
                    raise JournalError(
                        f"{path} is the journal of another run, which a merge would replace; name "
                        "another --out"
                    )
        journal = Journal.open(path, self._shards[0].settings)
        try:
            journal.clear()
            journal.set_value(_MERGED, [str(shard.path) for shard in self._shards])
            for shard in self._shards:
                with Journal.reopen(shard.path) as part:
                    journal.take(part.rows())
            for slide, scale in self._scales.items():
                journal.set_value(f"{SCALE_PREFIX}{slide}", scale)
            # An image may have changed its shard: the last word is the last by the clock.
            edits = [edit for shard in self._shards for edit in shard.edits]
            remarks = [remark for shard in self._shards for remark in shard.remarks]
            journal.add_edits(
                sorted(edits, key=lambda edit: edit.made_at),
                remarks=sorted(remarks, key=lambda remark: remark.made_at),
            )
        except BaseException:
            journal.close()
            raise
        return journal

    def _record(
        self, outcome: Outcome, written: Written, started: datetime, plan: Plan
    ) -> RunRecord:
        facts, totals = self._shards[0].facts, outcome.totals
        told = dict(facts.record)
        told["settings"] = {
            **self.names.settings(told["settings"]),
            "csv_separator": self.output.csv_separator,
            "csv_bom": self.output.csv_bom,
            "csv_decimal": self.output.csv.decimal_sign,
            "pseudonymized": self.output.pseudonymize is not None,
            "merged_shards": len(self._shards),
        }
        return RunRecord(
            versions=facts.versions,
            **told,
            profile=profile_facts(self._shards[0].run.facts.counting),
            review=None if written.reviewed is None else written.reviewed.facts(),
            inputs=self.names.inputs(facts.inputs),
            passed_over=self.names.passed_over(plan),
            images=outcome.images,
            done=totals.done,
            cells=totals.cells,
            not_done=totals.not_done,
            outstanding=totals.outstanding,
            outputs=written.tables,
            timings_s={"merge": outcome.seconds},
            analyzed_now=0,
            cells_now=0,
            started=started,
            finished=datetime.now(UTC),
        )


def _journals(shards: Sequence[str], out: Path) -> list[Path]:
    """The journals that arguments name, each once; in folders that of an earlier merge is none."""
    found: dict[Path, Path] = {}
    merged = journal_path(out).resolve()
    for text in shards:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.glob(f"*{JOURNAL_SUFFIX}") if p.resolve() != merged)
            if not inside:
                raise UsageError(f"SHARD {path} is a folder without a journal (*{JOURNAL_SUFFIX})")
        else:
            inside = [path if path.name.endswith(JOURNAL_SUFFIX) else journal_path(path)]
        for journal in inside:
            if not journal.is_file():
                raise UsageError(
                    f"SHARD {text}: there is no journal {journal}; name the --out table of each "
                    "analyze --shard, with its journal beside it"
                )
            found.setdefault(journal.resolve(), journal)
    return list(found.values())


def _read(path: Path) -> _Shard:
    with Journal.reopen(path) as journal:
        facts = ShardFacts.read(journal)
        number, _, count = journal.shard.partition("/")
        run = StoredRun.read(journal)
        return _Shard(
            path,
            int(number),
            int(count),
            journal.settings,
            facts,
            run,
            journal.values(SCALE_PREFIX),
            sum(not journal.has(ref) for ref in run.refs),
            journal.edits(),
            journal.remarks(),
        )


def _check_complete(shards: Sequence[_Shard]) -> None:
    """Check that every shard of one division is there once, with all its images."""
    counts = Counter(shard.count for shard in shards)
    if len(counts) > 1:
        parts = ", ".join(f"{s.path} is {s.number}/{s.count}" for s in shards[:_SHOWN])
        raise JournalError(f"the shards are of different divisions: {parts}; merge those of one")
    count = shards[0].count
    places = Counter(shard.number for shard in shards)
    for number, times in places.items():
        if times > 1:
            where = " and ".join(str(s.path) for s in shards if s.number == number)
            raise JournalError(f"shard {number}/{count} is there {times} times: {where}; name one")
    missing = [str(n) for n in range(1, count + 1) if n not in places]
    if missing:
        raise JournalError(
            f"of {count} shards {len(missing)} are missing: {listed(missing, _SHOWN)}; "
            "name them all, or run them first"
        )
    for shard in shards:
        if shard.left:
            raise JournalError(
                f"shard {shard.number}/{count} is not finished, {shard.left:,} of "
                f"{len(shard.run.refs):,} images are left: give its analyze command again "
                f"({shard.path})"
            )


def _check_alike(shards: Sequence[_Shard]) -> None:
    """Check that images, settings, weights, profile and versions agree everywhere."""
    first = shards[0]
    for shard in shards[1:]:
        pair = f"shards {first.number}/{first.count} and {shard.number}/{shard.count}"
        lines = differences(first.settings, shard.settings)
        lines += differences(first.run.counting_facts(), shard.run.counting_facts())
        lines += differences(dict(first.facts.versions), dict(shard.facts.versions))
        if lines:
            listed = "\n".join(f"  {line}" for line in lines)
            raise JournalError(
                f"{pair} had different settings, weights or versions:\n{listed}\n"
                "Run one of them again as the other was run."
            )
        if first.facts.plan_sha256 != shard.facts.plan_sha256:
            raise JournalError(
                f"{pair} saw different images, {first.facts.images:,} and "
                f"{shard.facts.images:,} in all, or named them differently: give the same INPUTs "
                "to all; where the folder has grown, run all shards again (only what is new is "
                "analysed)"
            )


def _common_scales(shards: Sequence[_Shard]) -> dict[str, Json]:
    """The scale of every slide, on which all shards must agree."""
    found: dict[str, Json] = {}
    for shard in shards:
        for slide, scale in shard.scales.items():
            other = found.setdefault(slide, scale)
            if _factor(other) != _factor(scale):
                raise JournalError(
                    f"the shards used different scales for slide {slide_in_words(slide)} "
                    f"({_factor(other)} and {_factor(scale)}), for its images changed between "
                    "their runs; run the shards with images of it again with --fresh"
                )
    return found


def _factor(scale: Json) -> Json:
    return scale.get("factor") if isinstance(scale, dict) else None


def _located(ref: ImageRef, run: StoredRun) -> ImageRef:
    """The reference with a path that holds here."""
    return ref if run.folder == Path.cwd() else run.found(ref)
