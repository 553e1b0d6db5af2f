"""Manifests: whether every document of the user's files can be applied, before one is.

Reads with ``documents``, judges with the same schemas, defaults, rules and allocator as the API
server, strictly (an unknown field is an error), and reports all problems of all documents at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from controller.api import documents
from controller.api.admission import SYSTEM_NAMESPACES
from controller.api.defaults import set_defaults
from controller.api.documents import Document
from controller.api.errors import ApiError, BadRequest, Invalid, ManifestError
from controller.api.kinds import KINDS
from controller.api.objects import Key, Obj, key, kind_of
from controller.api.schema import clean
from controller.api.validate import problems as rule_problems
from controller.api.wiring import NODE_PORTS

__all__ = ["Document", "check", "load", "read"]


def load(paths: Iterable[str | Path]) -> list[Document]:
    """The documents of YAML files; ManifestError when one cannot be read as YAML."""
    found, problems = documents.read(paths)
    if problems:
        raise ManifestError.of(problems)
    return found


def read(
    paths: Iterable[str | Path], existing: Iterable[Obj] = (), *, ip_family: str = "ipv4"
) -> list[Document]:
    """``load`` and ``check`` as one: all problems of reading and of meaning in one ManifestError."""
    found, problems = documents.read(paths)
    problems += _problems(found, existing, ip_family)
    if problems:
        files = list(dict.fromkeys(problem.file for problem in problems))
        problems.sort(key=lambda problem: (files.index(problem.file), problem.document))
        raise ManifestError.of(problems)
    return found


def check(found: Sequence[Document], existing: Iterable[Obj] = (), *, ip_family: str = "ipv4") -> None:
    """Raise one ManifestError with everything that is wrong with the documents as a set.

    ``existing``: what the cluster holds. Its Services' addresses and ports are taken into account
    and, if there are Namespaces in it, every document's namespace must exist or come before it.
    ``ip_family``: the cluster's, ``ipv4`` or ``dual``.
    """
    problems = _problems(found, existing, ip_family)
    if problems:
        raise ManifestError.of(problems)


def _problems(found: Sequence[Document], existing: Iterable[Obj], ip_family: str) -> list[ManifestError]:
    from controller.managers.allocator import InUse, allocate_service, ranges_of  # the server's admission

    held = list(existing)
    services = {key(obj): obj for obj in held if obj["kind"] == "Service"}
    in_use, ranges = InUse(services.values()), ranges_of(ip_family)
    spaces = {obj["metadata"]["name"] for obj in held if obj["kind"] == "Namespace"}
    spaces_known = bool(spaces)
    spaces.update(SYSTEM_NAMESPACES)
    problems: list[ManifestError] = []
    seen: dict[Key, Document] = {}
    for document in found:
        made = _object(document, problems)
        if made is None:
            continue
        at = key(made)
        if at in seen:
            other = seen[at]
            place = f"{other.file}, document {other.number}"
            problems.append(document.problem(f'a {at.kind} "{at.name}" stands in {place} already'))
            continue
        seen[at] = document
        if at.kind == "Namespace":
            spaces.add(at.name)
        elif spaces_known and at.namespace and at.namespace not in spaces:
            problems.append(document.problem(f'namespaces "{at.namespace}" not found', "metadata.namespace"))
        if at.kind == "Service":
            old = services.get(at)
            try:
                made = allocate_service(made, in_use, old=old, ranges=ranges)
            except Invalid as error:
                problems += _causes(document, error)
            else:
                if old is not None:
                    in_use.remove(old)
                in_use.add(made)
    return problems


def _object(document: Document, problems: list[ManifestError]) -> Obj | None:
    """The decoded object with defaults; None when it is wrong (``problems`` says why)."""
    try:
        row = kind_of(document.obj)
    except BadRequest as error:
        problems.append(document.problem(_unknown_kind(document.obj, error)))
        return None
    before = len(problems)
    made, report = clean(document.obj)
    problems += [document.problem(text, path) for path, text in report.wrong]
    for path in report.unknown:
        meant = report.meant.get(path)
        hint = f' (did you mean "{meant}"?)' if meant else ""
        problems.append(document.problem(f"unknown field{hint}", path))
    if report.wrong:
        return None
    metadata = made.setdefault("metadata", {})
    if not metadata.get("name"):
        problems.append(document.problem("Required value", "metadata.name"))
        return None
    if row.namespaced:
        metadata.setdefault("namespace", "default")
    else:
        metadata.pop("namespace", None)
    set_defaults(made)
    for wrong in rule_problems(made, None, report.missing):
        problems.append(document.problem(wrong.reason, wrong.field))
    if len(problems) == before:
        return made
    problems += _ports_out_of_range(document, made)
    return None


def _ports_out_of_range(document: Document, made: Obj) -> Iterator[ManifestError]:
    """What the allocator would say of a Service that is too wrong otherwise to be shown to it."""
    for index, port in enumerate(
        made.get("spec", {}).get("ports") or () if made["kind"] == "Service" else ()
    ):
        number = port.get("nodePort")
        if number and number not in NODE_PORTS:
            text = (
                f"Invalid value: {number}: provided port is not in the valid range. "
                f"The range of valid ports is {NODE_PORTS[0]}-{NODE_PORTS[-1]}"
            )
            yield document.problem(text, f"spec.ports[{index}].nodePort")


def _unknown_kind(obj: Obj, error: ApiError) -> str:
    for word in ("apiVersion", "kind"):
        if not obj.get(word):
            return f"{word} is missing"
    row = KINDS.get(obj["kind"]) if isinstance(obj["kind"], str) else None
    return f"{error} (it is served in {row.api_version})" if row else str(error)


def _causes(document: Document, error: Invalid) -> Iterator[ManifestError]:
    causes = (error.status.get("details") or {}).get("causes")
    for cause in causes or ({"message": str(error), "field": ""},):
        yield document.problem(cause["message"], cause["field"])
