"""The store compared with a model in memory, through any sequence of writes, damage and losses."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from numpy.typing import NDArray

from pipeline.errors import UserError
from pipeline.store import ACTIVATIONS, ShardStore
from pipeline.system import files

N_SHARDS = 3
INDEX = st.integers(0, N_SHARDS - 1)
SEED = st.integers(0, 3)


def arrays(seed: int) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    n = seed % 3  # shards of no image are shards too
    return {
        "V": rng.random((n, 2, 2, 3)).astype(np.float16),
        "image_id": np.arange(n, dtype=np.int64),
        "rejected_path": np.array([f"{seed}\n.png"] * (3 - n), dtype=object),
    }


class StoreMachine(RuleBasedStateMachine):
    """Keeps beside the store what each shard should hold, and whether its files are as written."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.store = ShardStore(self.folder, ACTIVATIONS, N_SHARDS)
        self.held: dict[int, int] = {}  # shard: seed of what was written last
        self.sound: dict[int, bool] = {}  # shard: its file is as it was written
        self.recorded: set[int] = set()

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @rule(index=INDEX, seed=SEED)
    def write(self, index: int, seed: int) -> None:
        self.store.write(index, arrays(seed), {"from": str(seed)}, layer=f"layer{seed}")
        self.held[index], self.sound[index] = seed, True
        self.recorded.add(index)

    @rule(index=INDEX, seed=SEED)
    def fail_to_write(self, index: int, seed: int) -> None:
        """A shard that cannot be filled leaves what was there."""
        with pytest.raises(AttributeError):
            self.store.write(index, arrays(seed) | {"bad": np.array([{1}])}, layer="x")

    @rule(index=INDEX, data=st.data())
    def flip_a_bit(self, index: int, data: st.DataObject) -> None:
        path = self.store.path(index)
        if not self.sound.get(index) or not path.exists():
            return
        content = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= 1 << data.draw(st.integers(0, 7))
        path.write_bytes(bytes(content))
        self.sound[index] = False

    @rule(index=INDEX, share=st.floats(0, 0.99))
    def cut_off(self, index: int, share: float) -> None:
        path = self.store.path(index)
        if path.exists():
            os.truncate(path, int(share * path.stat().st_size))
            self.sound[index] = False

    @rule(index=INDEX)
    def lose_the_file(self, index: int) -> None:
        files.remove(self.store.path(index))
        self.sound[index] = False

    @rule(index=INDEX, how=st.sampled_from(["lost", "cut off", "not JSON"]))
    def lose_the_record(self, index: int, how: str) -> None:
        path = self.store.record_path(index)
        if how == "lost" or not path.exists():
            files.remove(path)
        elif how == "cut off":
            os.truncate(path, path.stat().st_size // 2)
        else:
            path.write_bytes(b"\xff[]")
        self.recorded.discard(index)

    @rule()
    def leave_something_behind(self) -> None:
        self.store.path(0).with_name(f"shard-00000.h5{files.TEMPORARY}77").write_bytes(b"half")

    @precondition(lambda self: bool(files.leftovers(self.folder)))
    @rule()
    def tidy(self) -> None:
        files.remove_leftovers(self.folder)
        assert files.leftovers(self.folder) == []

    @invariant()
    def damage_is_found(self) -> None:
        sound = {index for index in self.recorded if self.sound[index]}
        bad = {self.store.path(index) for index in range(N_SHARDS) if index not in sound}
        assert set(self.store.damaged()) == bad
        assert set(self.store.missing()) <= {i for i in range(N_SHARDS) if i not in sound}

    @invariant()
    def what_is_sound_comes_back(self) -> None:
        for index in range(N_SHARDS):
            if self.sound.get(index):
                expected = arrays(self.held[index])
                found = self.store.read(index)
                assert found.keys() == expected.keys()
                assert np.array_equal(found["V"], expected["V"])
                texts = [text.decode() for text in found["rejected_path"]]
                assert texts == expected["rejected_path"].tolist()
                record = self.store.record(index)
                if index in self.recorded:
                    assert record is not None
                    assert record.made_from == {"from": str(self.held[index])}

    @invariant()
    def what_is_lost_is_named(self) -> None:
        for index in range(N_SHARDS):
            if not self.store.path(index).exists():
                with pytest.raises(UserError, match="is missing;"):
                    self.store.read(index)


TestStore = StoreMachine.TestCase
TestStore.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
