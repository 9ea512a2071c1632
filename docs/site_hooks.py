"""What mkdocs does besides: pages from the root of the repository, and formulas as MathML.

Pages link to one another as they do on a disk, `../CONTRIBUTING.md` among them; here such links are
led to where the site has the page. Formulas are turned into MathML when the site is built, so that
no script and no font has to be fetched to read them.
"""

import html
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

#: Pages of the root, and what they are called on the site.
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the root."""
    root = Path(config.config_file_path).parent
    for source, page in FROM_ROOT.items():
        text = (root / source).read_text(encoding="utf-8")
        # Their links start from the root.
        files.append(File.generated(config, page, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Lead links to pages of the root to where the site has them."""
    for source, page in FROM_ROOT.items():
        markdown = re.sub(rf"\]\((?:\.\./)+{source}", f"]({page}", markdown)
    return markdown


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    display = "block" if found[2] == "[" else "inline"
    return convert(html.unescape(found[3]).strip(), display=display)
