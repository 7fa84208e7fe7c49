"""Set-up hands uv what pip is configured with."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

LISTED = """\
:env:.find-links='/wheels/by-environment'
:env:.default-timeout='180'
global.cert='/certificates.crt'
global.extra-index-url='file:///one/simple\\nfile:///two/simple'
global.find-links='/wheels/by-file'
global.index-url='https://index.example/simple'
install.trusted-host='index.example'
freeze.timeout='10'
not a setting
"""


@pytest.fixture(scope="module")
def handing_over(pytestconfig: pytest.Config) -> ModuleType:
    """scripts/uv_environment.py, which is no part of a package."""
    path: Path = pytestconfig.rootpath / "scripts" / "uv_environment.py"
    spec = importlib.util.spec_from_file_location("uv_environment", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_settings_of_pip_become_variables_of_uv(handing_over: ModuleType) -> None:
    pip = handing_over.parse_pip_settings(LISTED)
    assert handing_over.uv_environment(pip, {"PATH": "/bin"}) == {
        "PATH": "/bin",
        "UV_FIND_LINKS": "/wheels/by-environment",
        "UV_DEFAULT_INDEX": "https://index.example/simple",
        "UV_INDEX": "file:///one/simple file:///two/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "index.example",
        "UV_HTTP_TIMEOUT": "180",
        "SSL_CERT_FILE": "/certificates.crt",
    }


def test_what_is_set_for_uv_already_wins(handing_over: ModuleType) -> None:
    own = {"UV_DEFAULT_INDEX": "https://own.example", "SSL_CERT_FILE": "/own.crt"}
    made = handing_over.uv_environment(handing_over.parse_pip_settings(LISTED), own)
    assert {name: made[name] for name in own} == own


def test_nothing_configured_changes_nothing(handing_over: ModuleType) -> None:
    assert handing_over.uv_environment({}, {"HOME": "/home"}) == {"HOME": "/home"}


def test_another_environment_is_not_handed_on(handing_over: ModuleType) -> None:
    assert handing_over.uv_environment({}, {"VIRTUAL_ENV": "/other", "UV_SYSTEM_PYTHON": "1"}) == {}


@pytest.mark.parametrize(
    "index", ["https://torch.example/cpu", "https://torch.example/cpu/"],
)  # fmt: skip
def test_only_torch_is_taken_from_the_torch_index(handing_over: ModuleType, index: str) -> None:
    made = handing_over.uv_environment({"find-links": "/wheels"}, {"EVOLOOM_TORCH_INDEX": index})
    assert made["UV_FIND_LINKS"] == "/wheels,https://torch.example/cpu/torch/"
    assert "UV_INDEX" not in made


def test_a_lock_is_made_without_partial_mirrors_and_for_gpu_without_cpu_torch(
    handing_over: ModuleType,
) -> None:
    pip = handing_over.parse_pip_settings(LISTED)
    outside = {"EVOLOOM_TORCH_INDEX": "https://torch.example", "UV_FIND_LINKS": "/wheels"}
    made = handing_over.uv_environment(pip, outside, extra_indexes=False, find_links=False)
    assert not {"UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_STRATEGY"} & made.keys()


@pytest.mark.parametrize(("value", "options"), [("true", ["--no-index"]), ("0", []), ("", [])])
def test_no_index_becomes_an_option(
    handing_over: ModuleType, value: str, options: list[str]
) -> None:
    assert handing_over.uv_options({"no-index": value}) == options
