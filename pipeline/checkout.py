"""In a checkout the package goes by the name of its folder too: one copy of the code, two names.

Installed, the package is ``concordance``. In a checkout its folder is ``pipeline``, and what is
imported under that name is what ``concordance`` means: ``pipeline.errors is concordance.errors``.
Classes and functions name ``concordance`` as their home, so that what is pickled or registered in
one place is found in any other.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import platformdirs

PACKAGE = "concordance"


def adopt(name: str) -> None:
    """Let `name` and everything below it mean the package ``concordance`` in this folder.

    Raises
    ------
    ImportError
        Another copy of ``concordance`` is loaded already.
    """
    folder = Path(__file__).resolve().parent
    package = sys.modules.get(PACKAGE) or _load(folder)
    loaded = Path(str(package.__file__)).resolve().parent
    if loaded != folder:
        raise ImportError(
            f"{PACKAGE} is loaded from {loaded}, and {name} would load it from {folder} as well:"
            f" import one of the two"
        )
    sys.modules[name] = package
    sys.modules.pop(__name__, None)  # this module, too, is that of the package from now on
    alias = _Alias(name)
    alias.adopt_loaded()
    sys.meta_path.insert(0, alias)


def folder(name: str) -> Path:
    """Return where files that are made once for all runs go.

    In a checkout a folder of it; for an installed package one of the user's caches.
    """
    root = Path(__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        return root / name
    return Path(platformdirs.user_cache_dir(PACKAGE)) / name


def _load(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} holds no package")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    return package


class _Alias(MetaPathFinder, Loader):
    """Finds ``<name>.x`` as the very module ``concordance.x``."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find a module below the name; one that is run as a script is left to Python."""
        if not fullname.startswith(f"{self._name}.") or fullname.endswith(".__main__"):
            return None
        if importlib.util.find_spec(self._real(fullname)) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Give the module itself, and remember its own spec: importing replaces it."""
        module = importlib.import_module(self._real(spec.name))
        spec.loader_state = module.__spec__
        self.adopt_loaded()
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Put its own spec back; it has been executed under its own name."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state

    def adopt_loaded(self) -> None:
        """Give what is loaded its second name at once.

        Importing a module makes it an attribute of its package, and a package may have given that
        name to a function since: what is known under its second name is not imported again.
        """
        for real, module in list(sys.modules.items()):
            if real.startswith(f"{PACKAGE}."):
                sys.modules.setdefault(self._name + real[len(PACKAGE) :], module)

    def _real(self, fullname: str) -> str:
        return PACKAGE + fullname[len(self._name) :]
