import json
import re

import pytest
from typer.testing import CliRunner

from segqa.commands.weights import app
from segqa.errors import InputError
from segqa.published import expected_shapes


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGQA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def call():
    """Run the sub-command alone; what a user can cause leaves it as an InputError."""

    def invoke(*arguments):
        outcome = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if outcome.exception is not None and not isinstance(outcome.exception, SystemExit):
            raise outcome.exception
        return outcome

    return invoke


def test_list_names_every_checkpoint_and_says_where_yours_belong(call, cache):
    result = call("list")

    for name in ("litemedsam", "sam-vit-h", "medsam", "sam-med2d", "universeg", "evanyseg-resnet101"):
        assert name in result.stdout
    assert str(cache) in result.stderr


def test_info_tells_licence_notice_hash_and_place(call):
    result = call("info", "universeg")

    assert "licence: OpenRAIL++-M" in result.stdout
    assert "research only" in result.stdout
    assert "sha256: not published" in result.stdout
    assert "place: not here" in result.stdout


def test_info_on_an_unknown_name_lists_the_known_ones(call):
    with pytest.raises(InputError, match=r"known: .*sam-vit-b"):
        call("info", "sam-vit-x")


def test_verify_fails_on_a_file_that_is_not_the_published_one(call, tmp_path):
    file = tmp_path / "medsam_vit_b.pth"
    file.write_bytes(b"something else")

    with pytest.raises(InputError, match=r"medsam_vit_b\.pth: sha256 is not the published 34b34b78"):
        call("verify", file)


def test_verify_says_when_no_hash_was_published(call, tmp_path):
    file = tmp_path / "sam-med2d_b.pth"
    file.write_bytes(b"something")

    assert "no published hash" in call("verify", file).stdout


def test_import_writes_the_file_names_it_and_repeats_the_notice(call, tmp_path):
    torch = pytest.importorskip("torch")
    state = {key: torch.full(shape, 0.5) for key, shape in expected_shapes("universeg", {}).items()}
    torch.save(state, tmp_path / "universeg.pt")
    out = tmp_path / "universeg.safetensors"

    result = call("import", tmp_path / "universeg.pt", "--as", "universeg", "--out", out)

    assert result.stdout.strip() == str(out)
    assert "research only" in result.stderr
    header = out.read_bytes()
    metadata = json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])["__metadata__"]
    assert metadata["name"] == "universeg"


@pytest.mark.parametrize("verb", ["list", "info", "verify", "import", "average"])
def test_help_names_the_verb(call, verb):
    assert re.search(rf"^\W*{verb}\b", call("--help").stdout, flags=re.MULTILINE)
