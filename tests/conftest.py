"""Shared by all suites: where the tree is, and its ``_utils`` on the path as Salt's loader puts them."""

import pathlib
import sys

REPO = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPO / "_utils"))
