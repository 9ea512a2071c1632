"""Descriptions of results, groups of them, and saved models, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from upweight.finding import axes_of, is_ids
from upweight.stored import ATTRIBUTE, block_shape, blocks_written, notes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import zarr


def described(found: zarr.Array[Any] | zarr.Group) -> dict[str, Any]:
    """Return what there is; "complete" says whether all of it is.

    Raises:
        ValueError: it is a group with nothing in it.
    """
    import zarr

    if isinstance(found, zarr.Array):
        return _result(found)
    notes: Any = found.attrs.get(ATTRIBUTE, {})
    return _model(notes) if notes.get("kind") == "model" else _group(found)


def _result(array: zarr.Array[Any]) -> dict[str, Any]:
    notes = notes_of(array)
    written, blocks = blocks_written(array)
    return {
        "kind": "result" if notes else "array",
        "complete": bool(notes.get("complete", False)),
        "written_by_upweight": bool(notes),
        "shape": list(array.shape),
        "axes": axes_of(array),
        "dtype": str(array.dtype),
        "block": list(block_shape(array)),
        "blocks_written": written,
        "blocks": blocks,
        "resumable": notes.get("resumable"),
        "version": notes.get("version"),
        "batches_read": {name: len(seen) for name, seen in notes.get("fingerprints", {}).items()},
        "identity": notes.get("identity", {}),
    }


def _group(group: zarr.Group) -> dict[str, Any]:
    import zarr

    components: dict[str, Any] = {}
    for name, member in sorted(group.members()):
        if isinstance(member, zarr.Array) and not notes_of(member) and is_ids(name, member):
            ids = {"kind": "ids", "shape": list(member.shape), "dtype": str(member.dtype)}
            components[name] = ids
        else:
            components[name] = described(member)
    if not components:
        raise ValueError(f"The Zarr group at {group.store_path} holds nothing.")
    complete = all(one.get("complete", True) for one in components.values())
    return {"kind": "group", "complete": complete, "components": components}


def _model(notes: Mapping[str, Any]) -> dict[str, Any]:
    told = notes.get("model", {})
    data = notes.get("data")
    return {
        "kind": "model",
        "complete": bool(notes.get("complete", False)),
        "method": told.get("method"),
        "options": _plain(told.get("options", {})),
        "dtype": notes.get("dtype"),
        "measurement": notes.get("measured"),
        "parameters": {one["name"]: list(one["shape"]) for one in notes.get("parameters", ())},
        "arrays": len(notes.get("arrays", ())),
        "needs_data": data is not None,
        "format": notes.get("format"),
        "version": notes.get("version"),
        "libraries": notes.get("libraries", {}),
    }


def _plain(told: Any) -> Any:
    """Return what saved options are without the marks of their kinds."""
    if isinstance(told, list):
        return [_plain(one) for one in told]
    if not isinstance(told, dict):
        return told
    if "mapping" in told:
        return {str(key): _plain(value) for key, value in told["mapping"]}
    if "class" in told:
        return {"class": told["class"], **{name: _plain(one) for name, one in told["fields"]}}
    if "enum" in told:
        return told["value"]
    if "array" in told:
        return f"array {told['array']}"
    return _plain(next(iter(told.values()))) if len(told) == 1 else told
