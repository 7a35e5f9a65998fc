"""Configuration: what is taken, what is refused and how, and the way through TOML."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import CARRIED_OUT, Config, make_config
from pipeline.config_file import dump_toml, load_toml
from pipeline.errors import UserError


def test_strings_as_make_gives_them_become_typed_values() -> None:
    config = make_config({"k": "8,12", "seed": "3", "aux_layers": "layer2, layer3", "limit": ""})
    assert config.k == (8, 12)
    assert config.seed == 3
    assert config.aux_layers == ("layer2", "layer3")
    assert config.limit is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"kay": "3"}, "unknown option kay; "),
        ({"modle": "resnet50"}, "unknown option modle; did you mean 'model'?"),
        ({"k": "0"}, "k='0' is not possible"),
        ({"k": "some"}, "k='some' is not possible"),
        ({"resize": "stretch"}, "resize='stretch' is not possible"),
        ({"shard": "3/3"}, "shard='3/3' is not possible (part i of n needs 0 <= i < n)"),
        ({"max_disk": "much"}, "max_disk='much' is not possible"),
        ({"seed": True}, "seed=True is not possible"),
        ({"k": True}, "k=True is not possible"),
        ({"image_size": "9" * 25}, "image_size='9999999999999999999999999' is not possible"),
        ({"seed": "-1"}, "seed='-1' is not possible"),
        ({"dataset": "a\udcff"}, "dataset='a\\udcff' is not UTF-8 text; rename it"),
    ],
)
def test_wrong_options_are_one_clear_sentence(options: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        make_config(options)
    assert str(caught.value).startswith(sentence)
    assert "\n" not in str(caught.value)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.integers(0, 2**32 - 1))
def test_any_text_survives_toml(
    tmp_path_factory: pytest.TempPathFactory, text: str, seed: int
) -> None:
    config = make_config({"dataset": text, "seed": seed, "k": "5"})
    path = tmp_path_factory.mktemp("toml") / "config.toml"
    path.write_text(dump_toml(config), encoding="utf-8", newline="")
    assert load_toml(path) == config


def test_digest_depends_on_what_decides_the_outcome_alone() -> None:
    base = Config.model_validate({})
    assert base.model_copy(update={"workers": 4, "keep": "none"}).digest() == base.digest()
    for name, value in {"k": (5,), "seed": 1, "resize": "crop", "layer": "layer3"}.items():
        assert base.model_copy(update={name: value}).digest() != base.digest(), name
    assert set(CARRIED_OUT) <= set(Config.model_fields)


@pytest.mark.parametrize("text", ["k = " + "[" * 99_999 + "]" * 99_999, "k = " + "{a=" * 9_999])
def test_what_is_nested_too_deep_is_no_configuration(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(UserError, match="its values are nested too deep"):
        load_toml(tmp_path / "config.toml")


def test_configuration_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Config.model_validate({}).seed = 3


def test_a_folder_without_configuration_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not a run: it has no config\.toml"):
        load_toml(tmp_path / "config.toml")


@pytest.mark.parametrize(("text", "n_bytes"), [("20GB", 2e10), ("1.5 T", 1.5e12), ("300", 300)])
def test_max_disk(text: str, n_bytes: float) -> None:
    assert make_config({"max_disk": text}).max_disk_bytes() == n_bytes
