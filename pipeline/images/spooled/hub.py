"""Datasets of Hugging Face's hub: the Parquet files of one, fetched and then as any others.

``owner/name`` names one, ``owner/name/config`` one of several that it holds, ``:split`` a split,
``@revision`` a branch, tag or commit. What was spooled is remembered with its commit, and is not
asked for again.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import UserError, option, suggest
from ...system.progress import bar, say
from .items import Part
from .labels import OF_SHARDS, named, split_of
from .parquet_source import parts_of
from .source import SpooledSource
from .store import RESERVE, Spool, find, find_latest, folder_of, spool

KIND = "hf"

CONVERTED = "refs/convert/parquet"
"""Where the hub keeps datasets of other formats as Parquet: ``<config>/<split>/0000.parquet``."""

NAME = re.compile(
    r"(?P<repo>[^/:@\s]+(/[^/:@\s]+)?)(/(?P<config>[^:@]+))?(:(?P<split>[^@]+))?(@(?P<at>.+))?"
)

ENDING = ".parquet"


@dataclass(frozen=True)
class Asked:
    """What is asked of the hub: a dataset, and where they are given config, split and revision."""

    repo: str
    config: str | None = None
    split: str | None = None
    at: str | None = None

    def __str__(self) -> str:
        """Write it as it is given."""
        parts = (("/", self.config), (":", self.split), ("@", self.at))
        return self.repo + "".join(f"{mark}{text}" for mark, text in parts if text)


class HubRecipe:
    """See `pipeline.images.spooled.source.Recipe`."""

    def __init__(self, where: str) -> None:
        found = NAME.fullmatch(where)
        if found is None:
            raise UserError(
                f"{option('dataset', f'{KIND}:{where}')} is no name of a dataset: it is"
                f" {KIND}:owner/name, {KIND}:owner/name/config, and :split behind that"
            )
        self._asked = Asked(found["repo"], found["config"], found["split"], found["at"])
        self._found = self._asked

    @property
    def name(self) -> str:
        """The dataset's name, without its owner."""
        parts = (self._asked.repo.rpartition("/")[2], self._asked.config, self._asked.split)
        return "-".join(each.replace("/", "-") for each in parts if each)

    @property
    def where(self) -> str:
        """What was asked for, with the commit that was found."""
        return str(self._found)

    def known(self) -> Spool | None:
        """Find the commit that was asked for, where it is spooled; without one, the last."""
        return self._of(self._asked) if self._asked.at else find_latest(self._origin)

    def spool(self) -> Spool:
        """Fetch the dataset as it is now, and spool it."""
        if self._asked.at and (known := self._of(self._asked)) is not None:
            return known
        api = _hub().HfApi()
        try:
            with _told(self._asked):
                about = api.dataset_info(
                    self._asked.repo, revision=self._asked.at, files_metadata=True
                )
        except _Unreachable as error:
            return self._without(error)
        self._found = replace(self._asked, at=about.sha)
        if (known := self._of(self._found)) is not None:
            return known
        with _told(self._asked):
            commit, files, n_bytes = _files(api, self._asked, about)
        _check_room(self.name, len(files), n_bytes)
        found = self._fetch(api, commit, files)
        parts, remarks = parts_of(found)
        return spool(self._folder(self._found), self.name, self._origin, _named(parts), remarks)

    @property
    def _origin(self) -> str:
        return f"{KIND}:{replace(self._asked, at=None)}"

    def _of(self, asked: Asked) -> Spool | None:
        return find(self._folder(asked))

    def _folder(self, asked: Asked) -> Path:
        return folder_of(self.name, self._origin, [asked.at])

    def _without(self, error: _Unreachable) -> Spool:
        """Take what was spooled last where the hub cannot be reached."""
        known = None if self._asked.at else find_latest(self._origin)
        if known is None:
            raise UserError(str(error)) from error
        say(
            f"dataset    the hub cannot be reached; taken is what was fetched of {self.name} before"
        )
        return known

    def _fetch(
        self, api: Any, commit: str, files: Mapping[str, str]
    ) -> dict[str, tuple[Path, str | None]]:
        """Fetch files that are not here yet; return each with its split."""
        found: dict[str, tuple[Path, str | None]] = {}
        with _told(self._asked), bar("fetching", len(files), "files") as shown:
            for path, split in files.items():
                local = api.hf_hub_download(
                    self._asked.repo, path, repo_type="dataset", revision=commit
                )
                found[path] = (Path(local), split or None)
                shown.update(1)
        return found


def open_hub(where: str) -> SpooledSource:
    """Open a dataset of the hub."""
    return SpooledSource(HubRecipe(where))


class _Unreachable(UserError):
    """The hub cannot be reached."""


def _hub() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise UserError(
            "huggingface_hub is not installed: pip install 'huggingface_hub', or concordance[hub]"
        ) from error
    return huggingface_hub


@contextmanager
def _told(asked: Asked) -> Iterator[None]:
    """Say in a sentence what the hub or the network answers."""
    from huggingface_hub import errors

    # Those of the package it speaks HTTP with, which was another in each of its versions.
    of_http = [each for each in errors.HfHubHTTPError.__mro__ if each.__name__ == "HTTPError"]
    trouble: tuple[type[Exception], ...] = (OSError, RuntimeError, ValueError, *of_http)
    name, talk = option("dataset", f"{KIND}:{asked}"), _hub().utils
    is_quiet = talk.are_progress_bars_disabled()
    talk.disable_progress_bars()
    try:
        yield
    except errors.RevisionNotFoundError as error:
        raise UserError(f"{name}: there is no revision {asked.at!r} of it") from error
    except errors.GatedRepoError as error:
        raise UserError(
            f"{name} is given to those only who accepted its terms: do so on its page, then log in"
            " by 'hf auth login'"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise UserError(
            f"{name}: the hub has no such dataset, or not for you; a private one needs 'hf auth"
            " login'"
        ) from error
    except trouble as error:
        code = getattr(getattr(error, "response", None), "status_code", 500)
        if isinstance(error, ValueError) or code < 500:
            raise UserError(f"{name} is not given by the hub: {_first(error)}") from error
        raise _Unreachable(
            f"{name} cannot be fetched ({type(error).__name__}: {_first(error)}): where there is a"
            f" network, 'hf download --repo-type dataset {asked.repo} --local-dir <folder>' fetches"
            f" it, and {option('dataset', '<folder>')} takes the folder"
        ) from error
    finally:
        if not is_quiet:
            talk.enable_progress_bars()


def _check_room(name: str, n_files: int, n_bytes: int) -> None:
    """Say what will be fetched, and refuse what the disk has no room for."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    there = next(each for each in (cache, *cache.parents) if each.exists())
    free = shutil.disk_usage(there).free
    say(f"fetching   {n_files} files of {name}, {n_bytes / 1e9:.2f} GB, into {cache}")
    if n_bytes + RESERVE > free:
        raise UserError(
            f"{name} is {n_bytes / 1e9:.2f} GB to fetch into {cache}, and {free / 1e9:.2f} GB are"
            " free there: free some space, or set HF_HOME to a folder with room"
        )


def _files(api: Any, asked: Asked, about: Any) -> tuple[str, dict[str, str], int]:
    """Return a commit, the Parquet files of it that are asked for with their splits, and bytes."""
    from huggingface_hub import errors

    own = [each.rfilename for each in about.siblings or [] if each.rfilename.endswith(ENDING)]
    if own:
        chosen = _chosen(asked, _own(asked, own, about.card_data))
        return about.sha, chosen, _bytes_of(about, chosen)
    try:
        other = api.dataset_info(asked.repo, revision=CONVERTED, files_metadata=True)
    except errors.RevisionNotFoundError as error:
        raise UserError(
            f"{option('dataset', f'{KIND}:{asked}')} has no Parquet files, and the hub has not made"
            " any of it: fetch its files, and give the folder of its images"
        ) from error
    paths = [each.rfilename for each in other.siblings if each.rfilename.endswith(ENDING)]
    by_config: dict[str, dict[str, str]] = {}
    for path in paths:
        config, split = (PurePosixPath(path).parts + ("",))[:2]
        split = split.removeprefix("partial-")
        by_config.setdefault(config, {})[path] = split
    chosen = _chosen(asked, by_config)
    return other.sha, chosen, _bytes_of(other, chosen)


def _bytes_of(about: Any, files: Mapping[str, str]) -> int:
    return sum(each.size or 0 for each in about.siblings if each.rfilename in files)


def _own(asked: Asked, paths: list[str], card: Any) -> dict[str, dict[str, str]]:
    """Sort a dataset's own files by config and split: as its card says, or as they are called."""
    found: dict[str, dict[str, str]] = {}
    said = (card or {}).get("configs") if card is not None else None
    for config in said if isinstance(said, list) else []:
        if isinstance(config, Mapping) and config.get("data_files"):
            found[str(config.get("config_name", "default"))] = dict(
                _of_patterns(paths, config["data_files"])
            )
    if any(found.values()):
        return {name: files for name, files in found.items() if files}
    folders = {PurePosixPath(path).parts[0] for path in paths if "/" in path}
    if asked.config in folders:
        return {
            str(asked.config): {p: _split(p) for p in paths if p.startswith(f"{asked.config}/")}
        }
    return {"default": {path: _split(path) for path in paths}}


def _of_patterns(paths: list[str], said: Any) -> Iterator[tuple[str, str]]:
    """Yield the files of patterns as cards have them: a text, several, or each with a split."""
    for each in said if isinstance(said, list) else [said]:
        split, patterns = "", each
        if isinstance(each, Mapping):
            split, patterns = str(each.get("split", "")), each.get("path")
        for pattern in patterns if isinstance(patterns, list) else [patterns]:
            for path in paths:
                if fnmatch.fnmatch(path, str(pattern)):
                    yield path, split or _split(path)


def _split(path: str) -> str:
    """Return the split of a file by its own word, as ``hf:…:split`` names it."""
    shard = OF_SHARDS.fullmatch(PurePosixPath(path).stem)
    return shard["word"] if shard is not None else split_of(path) or ""


def _chosen(asked: Asked, by_config: Mapping[str, dict[str, str]]) -> dict[str, str]:
    """Take the files of the config and split that are asked for, splits as they are called here."""
    name = option("dataset", f"{KIND}:{asked}")
    config = asked.config or ("default" if "default" in by_config else None)
    if config is None and len(by_config) == 1:
        config = next(iter(by_config))
    if config is None or config not in by_config:
        known = ", ".join(by_config)
        near = suggest(config or "", by_config)
        some = next(iter(by_config))
        raise UserError(
            f"{name}: it holds several datasets, {known}; give one, as"
            f" {option('dataset', f'{KIND}:{asked.repo}/{some}')}"
            if config is None
            else f"{name}: it holds no {config!r}; {near or f'there are {known}'}"
        )
    files = by_config[config]
    if asked.split is None:
        return {path: named(split) for path, split in files.items()}
    wanted = {asked.split, named(asked.split)}
    found = {p: named(s) for p, s in files.items() if s in wanted or named(s) in wanted}
    if not found:
        known = ", ".join(sorted(set(files.values()))) or "none by name"
        raise UserError(f"{name}: it has no split {asked.split!r}; there are {known}")
    return found


def _named(parts: list[Part]) -> list[Part]:
    """Leave out what all parts' names begin with, the folder ``data``."""
    if all(part.name.startswith("data-") for part in parts):
        return [replace(part, name=part.name.removeprefix("data-")) for part in parts]
    return parts


def _first(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
