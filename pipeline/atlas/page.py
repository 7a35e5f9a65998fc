"""What a page of the atlas is: where it lies, its template, and what it says.

A plug-in of the group ``concordance.pages`` is a function `MakePages`; ours are in
`pipeline.atlas.views`. The template of a page is one of ours, by its name, or Jinja source of its
own, which may extend ``base.html``; all values are escaped, and control and direction characters in
them are made visible. A value of several lines of its own takes the filter ``lines``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ..errors import UserError
from .catalogue import Catalogue
from .class_facts import ClassFacts, class_facts
from .media import ImageFiles

_PATH = re.compile(r"([A-Za-z0-9_-]+/)?[A-Za-z0-9_-]+\.html")


@dataclass(frozen=True)
class Material:
    """What pages are made from.

    Attributes
    ----------
    book : Catalogue
        The run's tables by concept, image and class; ``book.data.sql`` asks for more.
    made : mapping of int to ImageFiles
        The pictures of each image that is shown.
    """

    book: Catalogue
    made: Mapping[int, ImageFiles]

    @cached_property
    def facts(self) -> ClassFacts:
        """What several pages say of classes."""
        return class_facts(self.book)


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes
    ----------
    path : str
        Within the atlas: ``index.html``, ``concepts/7.html``; one folder deep at most.
    values : callable
        Gives what the template finds as ``page``; called in several threads at once.
    template : str
        Name of one of our templates.
    source : str
        Jinja source, where it is no template of ours.
    link : str
        What the navigation of all pages calls it; empty: it has no place there.
    """

    path: str
    values: Callable[[], Any]
    template: str = ""
    source: str = ""
    link: str = ""

    @property
    def root(self) -> str:
        """The way from the page to the atlas's folder, in links."""
        return "../" * self.path.count("/")


MakePages = Callable[[Material], Iterable[Page]]


def check_pages(pages: Iterable[Page]) -> list[Page]:
    """Refuse pages whose paths lead elsewhere or collide.

    Raises
    ------
    UserError
        It names the page.
    """
    checked: dict[str, Page] = {}
    for page in pages:
        if not _PATH.fullmatch(page.path):
            raise UserError(
                f"an atlas page cannot be {page.path!r}: it is <name>.html or <folder>/<name>.html"
            )
        if page.path in checked:
            raise UserError(f"two atlas pages are {page.path!r}")
        if bool(page.template) == bool(page.source):
            raise UserError(f"the atlas page {page.path!r} needs a template or a source, not both")
        checked[page.path] = page
    return list(checked.values())
