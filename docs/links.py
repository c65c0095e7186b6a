"""Whether a built site stands by itself: its links lead somewhere, and it loads nothing from another host."""

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["faults"]

# What a browser loads by itself; links in the text may lead elsewhere.
_LOADED = {"audio", "embed", "iframe", "image", "img", "input", "script", "source", "track", "video"}
_LOADED_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect", "dns-prefetch", "manifest"}
_IN_STYLES = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')\s;]+)")


class _Page(HTMLParser):
    """The names that links can lead to, the links, and what is loaded."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.names |= {given[name] for name in ("id", "name") if name in given}
        self.loaded += _IN_STYLES.findall(given.get("style", ""))
        relations = set(given.get("rel", "").split())
        if tag in _LOADED or (tag == "link" and relations & _LOADED_LINKS):
            sets = [part.split()[0] for part in given.get("srcset", "").split(",") if part.strip()]
            self.loaded += [given[name] for name in ("src", "href", "poster") if given.get(name)] + sets
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.loaded += _IN_STYLES.findall(data)


def faults(site: Path) -> list[str]:
    """Return what is wrong with the links of a folder of pages, a sentence each."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = []
    for path, page in pages.items():
        where = path.relative_to(site)
        for link in page.links + page.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loaded and parts.scheme != "data":
                    found.append(f"{where}: loads {link}.")
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                found.append(f"{where}: links to {link}, which is no file.")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                found.append(f"{where}: links to {link}, where nothing has this name.")
    for path in sorted(site.rglob("*.css")):
        loaded = _IN_STYLES.findall(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {address}." for address in loaded]
    return found
