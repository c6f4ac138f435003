"""The documentation as a site: ``make docs``. The pages are Markdown; the reference is made from the docstrings."""

import pathlib
import re
import sys
import types

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(REPO / "_utils"), str(REPO / "tests" / "support")]
for kind in ("modules", "states", "runners", "beacons", "output"):
    # several of these directories have a galaxy.py
    package = types.ModuleType(kind)
    package.__path__ = [str(REPO / f"_{kind}")]
    sys.modules[kind] = package

project = "Galaxy for Salt"
author = "its developers"
version = release = (REPO / "VERSION").read_text().strip()

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_heading_anchors = 3
exclude_patterns = ["pillar.schema.json"]
html_theme = "furo"
html_title = f"{project} {version}"
html_show_sphinx = False

autodoc_mock_imports = ["salt"]
autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"
add_module_names = False

# pages whose text is a file elsewhere in the repository
_TOP = {
    **{"index": "README", "contributing": "CONTRIBUTING", "changelog": "CHANGELOG", "report": "SECURITY"},
    "tests": "tests/README",
}
_PAGES = {f"{name}.md": f"{page}.md" for page, name in _TOP.items()}


def setup(app):
    """Sphinx calls this function."""
    app.connect("source-read", _read)


def _read(app, page, content):
    """Put the file's text before the page's own, and let links lead to pages of the site."""
    if page in _TOP:
        content[0] = (REPO / f"{_TOP[page]}.md").read_text() + content[0]
    content[0] = re.sub(r"\]\((?:\.\./)?((?:tests/)?[A-Z]+\.md)\)", lambda link: f"]({_PAGES[link[1]]})", content[0])
    content[0] = content[0].replace("](docs/", "](")
    if page in _TOP:
        content[0] = content[0].replace("](pillar.", "](../pillar.").replace("](../pillar.schema", "](pillar.schema")
