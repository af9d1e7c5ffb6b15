"""Sphinx's configuration. `make docs` runs docs/build.py, which generates the XML of the C reference and the page of command lines first."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
sys.path.insert(0, str(BUILD / "python"))

project = "PCCL"
author = "the PCCL maintainers"
project_copyright = "the PCCL maintainers, MIT license"
_numbers = re.findall(r"#define PCCL_VERSION_\w+ (\d+)", (ROOT / "include/pccl/pccl.h").read_text())
version = release = ".".join(_numbers)

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "breathe", "sphinx_copybutton"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["requirements.txt"]
suppress_warnings = ["duplicate_declaration.c"]  # C has a tag and a typedef of one name

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
myst_url_schemes = {"http": None, "https": None, "mailto": None}

breathe_projects = {"pccl": str(BUILD / "docs/doxygen/xml")}
breathe_default_project = "pccl"
breathe_domain_by_extension = {"h": "c"}
breathe_show_include = False

# The reference of the Python package is read from the built package. PyTorch is not needed for that.
autodoc_mock_imports = ["torch"]
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "separated"
autodoc_type_aliases = {"Tensor": "Tensor"}

default_role = "literal"  # docstrings name code in single backticks


def _mark_code_blocks(_app, _what, _name, _object, _options, lines):
    """Docstrings indent an example after any sentence; reStructuredText needs two colons before it."""
    marked, inside = [], False
    for i, line in enumerate(lines):
        if line.strip() in ("Example:", "Examples:"):  # a section of code
            marked += ["Example::", ""]
            continue
        if line.strip() and not line.startswith("    "):
            inside = False
        begins = line.startswith("    ") and not inside and i >= 2 and not lines[i - 1].strip() and lines[i - 2].strip()
        if begins and not lines[i - 2].startswith((" ", ":", ".. ", "- ")):
            inside = True
            if marked[-2].rstrip().endswith(":"):
                marked[-2] = marked[-2].rstrip().rstrip(":") + "::"
            else:
                marked += ["::", ""]
        marked.append(line)
    lines[:] = marked


def setup(app):
    app.connect("autodoc-process-docstring", _mark_code_blocks, priority=1)


html_theme = "furo"
html_title = f"PCCL {release}"
html_static_path = ["_static"]
html_css_files = ["pccl.css"]
html_show_sphinx = False
html_copy_source = False
# Links from pages to files of the tree outside docs/ lead to the repository's own pages; pages themselves need no network to be read.
html_theme_options = {"navigation_with_keys": True}
