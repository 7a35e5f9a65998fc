"""A run's folder and its record: who writes, how far it is, what is noted of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import UserError
from ..store import EncodingError
from ..store.encoding import UnreadableError
from ..system import files
from ..system.progress import say
from .ownership import is_run, leftovers
from .record import RunRecord, StageFacts
from .stages import STAGES


@dataclass(frozen=True)
class RunFolder:
    """One run: its folder, and its configuration as resolved when the run was made."""

    folder: Path
    config: Config

    @cached_property
    def record(self) -> RunRecord:
        """What ``run.json`` says.

        Raises
        ------
        UserError
            It is missing or damaged.
        """
        return RunRecord.load(self.record_path)

    @property
    def record_path(self) -> Path:
        """The file of the run's record."""
        return self.folder / "run.json"

    def saved(self) -> RunRecord | None:
        """Return what ``run.json`` says; None where it is missing or damaged.

        Raises
        ------
        EncodingError
            It is whole, but of another kind or version.
        UnreadableError
            It cannot be read now.
        """
        try:
            return self.record
        except (EncodingError, UnreadableError):
            raise
        except UserError:
            return None

    def is_finished(self) -> bool:
        """Say whether every stage has been carried out to its end, as far as ``run.json`` says."""
        return self.saved() is not None and all(self.is_done(stage.name) for stage in STAGES)

    @property
    def siblings(self) -> dict[str, Path]:
        """Folders of the runs at other layers that were begun with this one, by layer.

        Those that still lie beside it.
        """
        beside = self.folder.absolute().parent
        found = {layer: beside / name for layer, name in self.record.siblings.items()}
        return {layer: folder for layer, folder in found.items() if is_run(folder)}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Be the one process that writes to the run; parts (``SHARD``) may write side by side.

        Raises
        ------
        UserError
            Another process is at it.
        """
        part, logs = self.config.shard, self.folder / "logs"
        with ExitStack() as held:
            held.enter_context(
                files.lock(logs / "writer.lock", self.folder, shared=part is not None)
            )
            if part is not None:
                name = f"part-{part.replace('/', '-of-')}.lock"
                held.enter_context(files.lock(logs / name, f"part {part} of {self.folder}"))
            else:
                for path in leftovers(self.folder):
                    files.remove(path)
            yield

    @contextmanager
    def stage(self, name: str) -> Iterator[dict[str, Any]]:
        """Record a stage: its status, seconds, and the counts put into the yielded dict."""
        start = time.monotonic()
        counts: dict[str, Any] = {}
        self.note_stage(name, StageFacts(status="running"))
        self.log(f"{name}: started")
        try:
            yield counts
        except BaseException as error:
            self.log(f"{name}: failed: {error!r}")
            with suppress(UserError):  # where nothing can be written, that is being said already
                facts = StageFacts(status="failed", seconds=_seconds(start), **counts)
                self.note_stage(name, facts)
            raise
        self.note_stage(name, StageFacts(status="done", seconds=_seconds(start), **counts))
        self.log(f"{name}: done in {_seconds(start)} s")

    def is_done(self, stage: str) -> bool:
        """Say whether a stage has been carried out to its end."""
        return self.record.stage(stage).status == "done"

    def note(self, **facts: Any) -> None:
        """Add facts to ``run.json``, to which parts of a run may write side by side."""
        self._update(lambda record: record.model_copy(update=facts))

    @contextmanager
    def alone(self, purpose: str) -> Iterator[None]:
        """Wait for other parts of the run that do the same, then read ``run.json`` again."""
        with files.lock(self.folder / "logs" / f"{purpose}.lock", self.folder, wait=True):
            self.reload("record")
            yield

    def log(self, line: str) -> None:
        """Add a line to the run's log."""
        files.append_line(self.folder / "logs" / "run.log", line)

    def tell(self, line: str) -> None:
        """Say something that the run's log should remember."""
        say(line)
        self.log(line)

    def note_stage(self, stage: str, facts: StageFacts) -> None:
        """Add what is known of a stage to ``run.json``."""
        self._update(lambda record: record.with_stage(stage, facts))

    def _update(self, change: Callable[[RunRecord], RunRecord]) -> None:
        with self.alone("record"):
            change(self.record).save(self.record_path)
            self.reload("record")

    def reload(self, *names: str) -> None:
        """Forget what was read, by the name of its attribute: it is read again when asked for."""
        for name in names:
            self.__dict__.pop(name, None)


def _seconds(start: float) -> float:
    return round(time.monotonic() - start, 2)
