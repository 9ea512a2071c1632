"""Write `docs/support.md` from runs of the conformance kit.

`python docs/support.py torch` runs the kit on an installed backend and replaces its column; the
others stay. A run that has been written with `python -m upweight.testing torch --json torch.json`
is taken by its file. With `--check`, nothing is written, and a column that differs is an error.
"""

import argparse
import json
import sys
from pathlib import Path

PAGE = Path(__file__).with_name("support.md")

#: By their names in the kit, the tests that a method has to pass in the kit and in the backend.
ON_THE_OBJECTIVE = "test_a_method_is_its_closed_form"
REGISTERED = "test_the_method_of_the_backend_is_that_of_core"

HEAD = """# Support

What each backend can do, as found by the [conformance kit](writing-a-backend.md#the-kit) and written
by `python docs/support.py NAME`. `autograd` is the example of
[Writing a backend](writing-a-backend.md), which registers one method.
"""

SECTIONS = {
    "Capabilities": "Optional parts of an objective, which make methods possible or faster.",
    "Methods": """Each in options in which it has a closed form, and equal to that.

- **yes**: registered with the backend
- **on the objective**: not registered, and works as the class of `upweight.models` on the objective
- **no**: needs a capability that is not there""",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a backend, or a file of results")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args()
    reports = [results_of(run) for run in options.runs]
    if bad := [report["backend"] for report in reports if not report["conforms"]]:
        sys.exit(f"{', '.join(bad)} does not conform; see `python -m upweight.testing`.")
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    tables = {title: table_of(page, title) for title in SECTIONS}
    for report in reports:
        for title, column in columns_of(report).items():
            tables[title][report["backend"]] = column
    written = HEAD + "".join(section(title, tables[title]) for title in SECTIONS)
    if options.check and written != page:
        sys.exit(f"{PAGE} is not what the kit finds; run `python docs/support.py NAME`. {written}")
    if not options.check:
        PAGE.write_text(written, encoding="utf-8")


def results_of(run):
    if run.endswith(".json"):
        return json.loads(Path(run).read_text(encoding="utf-8"))
    from upweight.testing.running import run as run_kit

    return run_kit(run).as_dict()


def columns_of(report):
    """Return the cells of a backend, by section and row."""
    threads = outcomes(report, "test_threads_may_call_at_once")
    there = "test_what_is_claimed_is_what_is_there["
    capabilities = [
        result["test"].removeprefix(there).rstrip("]")
        for result in report["results"]
        if result["test"].startswith(there)
    ]
    claimed = {
        f"`{name}`": "yes" if name in report["capabilities"] else "no" for name in capabilities
    }
    results = (r for r in report["results"] if r["test"].startswith(ON_THE_OBJECTIVE))
    cases = {result["case"]: result["method"] for result in results}
    return {
        "Capabilities": {
            "types": ", ".join(report["dtypes"]),
            "several threads at once": "yes" if threads == {"passed"} else "no",
            **claimed,
        },
        "Methods": {case: support_of(report, case, cases[case]) for case in cases},
    }


def support_of(report, case, method):
    closed = outcomes(report, ON_THE_OBJECTIVE, case=case)
    registered = outcomes(report, REGISTERED, method=method)
    if "known gap" in closed | registered:
        return "known gap"
    if closed == {"skipped"}:
        return "no"
    return "yes" if registered == {"passed"} else "on the objective"


def outcomes(report, test, **about):
    return {
        result["outcome"]
        for result in report["results"]
        if result["test"].partition("[")[0] == test
        and all(result[key] == value for key, value in about.items())
    }


def table_of(page, title):
    """Return the columns of a section of the page, by backend and row."""
    _, _, rest = page.partition(f"\n## {title}\n")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if not rows:
        return {}
    (_, *backends), _, *body = rows
    return {b: {row[0]: row[i] for row in body} for i, b in enumerate(backends, start=1)}


def section(title, table):
    names = list(dict.fromkeys(name for column in table.values() for name in column))
    lines = [["", *table], ["---"] * (1 + len(table))]
    lines += [[name, *(column.get(name, "") for column in table.values())] for name in names]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"\n## {title}\n\n{SECTIONS[title]}\n\n{rows}\n"


if __name__ == "__main__":
    main()
