"""The page: a template, and what is put into it, escaped for the place where it stands."""

from __future__ import annotations

import base64
import hashlib
import json
from functools import cache
from html import escape
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING, Any

from upweight.describing import described
from upweight.version import __version__

if TYPE_CHECKING:
    import zarr

    from upweight.report._data import PageData

#: What would end a script element, begin a comment or entity, or break a line in old scripts.
UNSAFE = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def page(array: zarr.Array[Any], data: PageData, *, title: str) -> bytes:
    """Return the page about a result, in UTF-8."""
    told = described(array)
    summary = [*data.summary, ("Method", str(told["identity"].get("method", "not known")))]
    if not told["complete"]:
        written = f"{told['blocks_written']} of about {told['blocks']} blocks are written"
        summary.insert(0, ("Incomplete", f"{written}; numbers that are missing are left out"))
    style, script = _resource("style.css"), _resource("script.js")
    text = Template(_resource("template.html")).substitute(
        title=escape(title),
        policy=escape(_policy(style, script)),
        style=style,
        script=script,
        summary=_terms(dict(summary)),
        reading=_resource(f"{data.embedded['kind']}.html"),
        provenance=_terms({**told, "report": f"upweight {__version__}"}),
        data=embedded_json(data.embedded),
    )
    # Halves of surrogate pairs, which a file in UTF-8 cannot hold, become references.
    return text.encode("utf-8", "xmlcharrefreplace")


def embedded_json(value: Any) -> str:
    """Return JSON that may stand in a script element, whatever its strings are."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).translate(UNSAFE)


def _policy(style: str, script: str) -> str:
    """Return a policy that lets the page load nothing, and run this script only."""
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash(style)}'; "
        f"script-src '{_hash(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _terms(told: dict[str, Any]) -> str:
    """Return a list of terms, with a list in it for each dictionary."""
    terms = []
    for name, value in told.items():
        if value is None or value == {}:
            continue
        shown = _terms(value) if isinstance(value, dict) else escape(_text(value))
        terms.append(f"<div><dt>{escape(name.replace('_', ' '))}</dt><dd>{shown}</dd></div>")
    return f"<dl>{''.join(terms)}</dl>"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


@cache
def _resource(name: str) -> str:
    return files("upweight.report").joinpath(name).read_text("utf-8")
