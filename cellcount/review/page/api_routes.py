"""JSON answers of the page's server: data that the page reads, and changes that people make."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cellcount.core.records import NOT_A_CELL
from cellcount.errors import CellcountError
from cellcount.outputs.slides import written_rows
from cellcount.review.named_cells import named_counts
from cellcount.review.page.cell_rows import COLUMNS, default_keys
from cellcount.review.page.edit_requests import edits_asked_for
from cellcount.review.page.gate import Session
from cellcount.review.page.messages import (
    RefusedError,
    batch_of,
    parsed,
    person_of,
    text_of,
    whole_of,
)
from cellcount.review.page.second_reading import (
    agreement_of,
    cell_subject,
    cells_to_read,
    first_label,
    readings_of,
    settled_in,
)
from cellcount.review.page.slide_numbers import (
    approval_of,
    differential_of,
    flag_names,
    summary_of,
    unit_of,
)
from cellcount.review.page.undo_stacks import batch_uid
from cellcount.review.page.workbench import Changed, Workbench
from cellcount.store.edits import new_id
from cellcount.store.remarks import Remark, RemarkKind, slide_subject

Said = Mapping[str, Any]
Answer = dict[str, Any]
_KEY_NAMES = 60


class Api:
    """JSON answers to the page's requests.

    Args:
        bench: the run.
    """

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        # Browsers keep pictures by their address, which another run may have had before.
        self._pictures = new_id()

    def routes(self) -> list[Route]:
        """Addresses and what answers them."""
        reads: dict[str, Callable[[Request], Answer]] = {
            "/api/run": self._run,
            "/api/classifier": self._classifier,
            "/api/classifier/cells": self._classifier_cells,
            "/api/slides/{slide:int}": self._summary,
            "/api/slides/{slide:int}/cells": self._cells,
            "/api/slides/{slide:int}/changes": self._changes,
            "/api/slides/{slide:int}/second": self._second,
            "/api/slides/{slide:int}/agreement": self._agreement,
        }
        writes: dict[str, Callable[[Request, Said], Answer]] = {
            "/api/sign-in": self._sign_in,
            "/api/keys": self._keys,
            "/api/outputs": self._outputs,
            "/api/classifier": self._make_classifier,
            "/api/slides/{slide:int}/edits": self._edits,
            "/api/slides/{slide:int}/undo": self._undo,
            "/api/slides/{slide:int}/flag": self._flag,
            "/api/slides/{slide:int}/approve": self._approve,
            "/api/slides/{slide:int}/reopen": self._reopen,
            "/api/slides/{slide:int}/readings": self._reading,
            "/api/slides/{slide:int}/consensus": self._consensus,
        }
        return [
            *(
                Route(path, partial(self._get, answer), methods=["GET"])
                for path, answer in reads.items()
            ),
            *(
                Route(path, partial(self._post, answer), methods=["POST"])
                for path, answer in writes.items()
            ),
        ]

    async def _get(self, answer: Callable[[Request], Answer], request: Request) -> Response:
        return await self._answered(lambda: answer(request))

    async def _post(self, answer: Callable[[Request, Said], Answer], request: Request) -> Response:
        body = await request.body()
        return await self._answered(lambda: answer(request, parsed(body)))

    async def _answered(self, answer: Callable[[], Answer]) -> Response:
        return await run_in_threadpool(self._locked, answer)

    def _locked(self, answer: Callable[[], Answer]) -> Response:
        """Handle one request at a time; a refusal is answered with a sentence."""
        try:
            with self._bench.lock:
                return _json(answer())
        except RefusedError as error:
            return _json({"error": str(error), **error.facts}, error.status)
        except CellcountError as error:
            return _json({"error": str(error)}, 500)

    def _run(self, request: Request) -> Answer:
        bench, session = self._bench, _session(request)
        profile = bench.stored.run.facts.counting.profile
        return {
            "person": session.person,
            "read_only": bench.read_only,
            "profile": bench.stored.run.facts.counting.label,
            "types": [asdict(one) for one in bench.types],
            "classes": [asdict(one) for one in bench.stored.run.facts.counting.classes],
            "slides": [{"title": s.title, "fields": len(s.images)} for s in bench.slides],
            "targets": [target.cells for target in profile.targets],
            "nrbc": profile.nrbc or "",
            "flags": flag_names(),
            "keys": self._keys_of(session.person),
            "behind": bench.is_behind(),
            "pictures": self._pictures,
        }

    def _keys_of(self, person: str) -> dict[str, str]:
        keys = default_keys(self._bench.types)
        for one in self._bench.remarks():
            if one.kind == "keys" and one.person == person:
                keys = dict(one.facts["keys"])
        return keys

    def _summary(self, request: Request) -> Answer:
        return summary_of(self._bench, _slide(request))

    def _cells(self, request: Request) -> Answer:
        number, bench = _slide(request), self._bench
        rows = bench.rows(number)
        depth = bench.undo_depth(_session(request).person, number)
        return {"columns": COLUMNS, "rows": rows, "sequence": bench.sequence, "undo": depth}

    def _changes(self, request: Request) -> Answer:
        since = request.query_params.get("since", "")
        if not (since.isascii() and since.isdigit() and len(since) < 12):
            raise RefusedError("since must be a whole number from 0")
        found = self._bench.changes(int(since), _slide(request))
        return _told(found) | {"sequence": self._bench.sequence}

    def _sign_in(self, request: Request, said: Said) -> Answer:
        session = _session(request)
        session.person = "" if said.get("name") == "" else person_of(said, "name")
        return {"person": session.person}

    def _keys(self, request: Request, said: Said) -> Answer:
        person = self._person(request)
        keys = said.get("keys")
        known = {*self._bench.type_index, NOT_A_CELL}
        if not isinstance(keys, dict) or len(keys) > _KEY_NAMES:
            raise RefusedError("keys must be an object of keys and types")
        for key, name in keys.items():
            fits = isinstance(name, str) and name in known
            if len(key) != 1 or not key.isprintable() or not fits:
                raise RefusedError("each key must be one character, with one of the run's types")
        remark = self._remark("keys", person, person, {"keys": keys}, batch_of(said))
        self._bench.remark(remark)
        return {"keys": keys}

    def _outputs(self, request: Request, said: Said) -> Answer:
        del said
        self._person(request)
        done = self._bench.write_outputs()
        notes = [*done.notes, *(f"not drawn again: {name}" for name in done.not_drawn)]
        return {"written": [path.name for path in done.written], "notes": notes}

    def _classifier(self, request: Request) -> Answer:
        del request
        return self._bench.classifier.facts()

    def _classifier_cells(self, request: Request) -> Answer:
        """Cells that a classifier would be made of, by their label, the commonest first."""
        del request
        counts = named_counts(self._bench.stored)
        return {"cells": counts.most_common()}

    def _make_classifier(self, request: Request, said: Said) -> Answer:
        del said
        self._bench.classifier.start(self._person(request))
        return self._bench.classifier.facts()

    def _edits(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        self._bench.check_open(number)
        editor, batch = self._bench.editor(person), batch_of(said)
        edits, seen = edits_asked_for(self._bench, number, editor, batch, said)
        return self._after(self._bench.add(edits, seen), person, number)

    def _undo(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        redo = said.get("redo", False)
        if not isinstance(redo, bool):
            raise RefusedError("redo must be true or false")
        changed = self._bench.take_back(person, number, batch_of(said), redo=redo)
        return self._after(changed, person, number)

    def _flag(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        self._bench.check_open(number)
        image, flag, is_up = whole_of(said, "image"), text_of(said, "flag"), said.get("is_up")
        if self._bench.slide_of_image(image) != number:
            raise RefusedError("the image is of another slide", 404)
        if flag not in flag_names() or not isinstance(is_up, bool):
            raise RefusedError(
                f"flag must be one of {', '.join(flag_names())}, is_up true or false"
            )
        key = self._bench.kept(image).key
        facts = {"flag": flag, "is_up": is_up}
        self._bench.remark(self._remark("flag", key, person, facts, batch_of(said)))
        return summary_of(self._bench, number)

    def _approve(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        self._bench.check_open(number)
        slide = self._bench.slide(number)
        unit = unit_of(self._bench, number)
        rows = written_rows(unit, differential_of(self._bench, unit))
        subject = slide_subject(slide.specimen, slide.slide)
        facts = {"rows": rows}
        self._bench.remark(self._remark("approve", subject, person, facts, batch_of(said)))
        self._bench.write_outputs()
        return summary_of(self._bench, number)

    def _reopen(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        approval = approval_of(self._bench, number)
        if approval is None or not approval.is_locked:
            raise RefusedError("the slide is not approved, so there is nothing to reopen", 409)
        reason = text_of(said, "reason")
        if not reason:
            raise RefusedError("a reason is expected: it is told with the amended result")
        slide = self._bench.slide(number)
        subject = slide_subject(slide.specimen, slide.slide)
        facts = {"reason": reason}
        self._bench.remark(self._remark("reopen", subject, person, facts, batch_of(said)))
        self._bench.write_outputs()
        return summary_of(self._bench, number)

    def _second(self, request: Request) -> Answer:
        """Cells that this person has not read yet: pictures alone, without anyone's label."""
        number, person = _slide(request), self._person(request)
        done = {subject for subject, who in readings_of(self._bench.remarks()) if who == person}
        every = list(cells_to_read(self._bench, number, person))
        left = [
            [image, self._bench.kept(image).ids[place]]
            for image, place, subject in every
            if subject not in done
        ]
        return {"cells": left, "done": len(every) - len(left), "total": len(every)}

    def _reading(self, request: Request, said: Said) -> Answer:
        number, person = _slide(request), self._person(request)
        image, name = whole_of(said, "image"), text_of(said, "type")
        if self._bench.slide_of_image(image) != number:
            raise RefusedError("the image is of another slide", 404)
        if name not in self._bench.type_index and name != NOT_A_CELL:
            raise RefusedError("type must be one of the run's types, or not_a_cell")
        place = self._bench.place_of(image, text_of(said, "cell"))
        kept = self._bench.kept(image)
        subject = cell_subject(*kept.identity(place))
        open_cells = {s for _, _, s in cells_to_read(self._bench, number, person)}
        if subject not in open_cells or subject in settled_in(self._bench.remarks()):
            raise RefusedError("this cell is not one that you read blind", 409)
        first, reader = first_label(self._bench, image, place)
        facts = {
            "type": name,
            "first": first,
            "first_reader": reader,
            "image": kept.result.ref.image,
        }
        self._bench.remark(self._remark("reading", subject, person, facts, batch_of(said)))
        return {"done": True}

    def _agreement(self, request: Request) -> Answer:
        return {"pairs": agreement_of(self._bench, _slide(request))}

    def _consensus(self, request: Request, said: Said) -> Answer:
        """Settle a disagreement: the type counts, and the journal says that it was a consensus."""
        number, person = _slide(request), self._person(request)
        self._bench.check_open(number)
        image, batch = whole_of(said, "image"), batch_of(said)
        place = self._bench.place_of(image, text_of(said, "cell"))
        if self._bench.slide_of_image(image) != number:
            raise RefusedError("the image is of another slide", 404)
        kept = self._bench.kept(image)
        subject, name = cell_subject(*kept.identity(place)), text_of(said, "type")
        readers = [
            f"{r.first_reader} {r.first}, {r.second_reader} {r.second}"
            for r in readings_of(self._bench.remarks()).values()
            if r.subject == subject and r.first != r.second
        ]
        if not readers:
            raise RefusedError("there is no disagreement on this cell", 409)
        edit = {
            "kind": "not_a_cell" if name == NOT_A_CELL else "retype",
            "image": image,
            "cell": kept.ids[place],
            "version": kept.version(place),
            "type": name,
            "comment": f"consensus ({'; '.join(readers)})",
        }
        editor = self._bench.editor(person)
        edits, seen = edits_asked_for(self._bench, number, editor, batch, {"edits": [edit]})
        remark = self._remark("settle", subject, person, {"type": name}, batch)
        self._bench.add(edits, seen, [remark])
        return {"pairs": agreement_of(self._bench, number)}

    def _person(self, request: Request) -> str:
        """Name of the person who signed in; changes by anyone else are refused."""
        if self._bench.read_only:
            raise RefusedError("the page was opened with --read-only: nothing can be changed", 403)
        person = _session(request).person
        if not person:
            raise RefusedError("sign in with your name first", 401)
        return person

    def _remark(
        self, kind: RemarkKind, subject: str, person: str, facts: Said, batch: str
    ) -> Remark:
        made_at = self._bench.editor(person).made_at
        return Remark(
            kind=kind,
            subject=subject,
            person=person,
            made_at=made_at,
            facts=facts,
            uid=batch_uid(batch, 0),
        )

    def _after(self, changed: Changed, person: str, number: int) -> dict[str, Any]:
        depth = self._bench.undo_depth(person, number)
        return _told(changed) | {"undo": depth, "sequence": self._bench.sequence}


def _told(changed: Changed) -> dict[str, Any]:
    return {"rows": changed.rows, "gone": changed.gone}


def _slide(request: Request) -> int:
    return int(request.path_params["slide"])


def _session(request: Request) -> Session:
    session = request.scope["session_of_page"]
    assert isinstance(session, Session)
    return session


def _json(content: object, status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    headers = {"cache-control": "no-store"}
    return Response(body, status, headers, "application/json")
