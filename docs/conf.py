"""Settings of Sphinx for the staged sources; see build.py."""

import probe

project = "probe"
author = "The probe developers"
copyright = author  # noqa: A001 - Sphinx's own name
version = release = probe.__version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
exclude_patterns = ["**.ipynb_checkpoints"]
default_role = "py:obj"  # single backticks in docstrings are names
toc_object_entries = False
autodoc_typehints = "none"  # the descriptions tell types and shapes; with them signatures fill a screen
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
nb_execution_mode = "off"  # what is committed is shown
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # they would come from another host
suppress_warnings = ["mystnb.unknown_mime_type"]  # other forms of the same output are shown

html_theme = "furo"
html_title = f"probe {release}"
html_static_path = ["static"]
html_css_files = ["probe.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_search_summary = False  # it is fetched, which a browser allows of no file
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
