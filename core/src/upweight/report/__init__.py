"""A stored result as one HTML page, which needs nothing but a browser.

What the page shows comes from the result, and from samples and labels that the caller gives. All of
it is data and never markup: no text of theirs is read as HTML or as a script.
"""

from upweight.report.writing import WrittenReport, write_report

__all__ = ["WrittenReport", "write_report"]
