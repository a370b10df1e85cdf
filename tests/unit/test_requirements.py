"""A missing program is skipped at home, and a failure in continuous integration."""

import pytest

from support.requirements import require_program


def test_a_program_that_is_there_is_returned_with_its_path() -> None:
    assert require_program("no-such-program", "sh").endswith("/sh")


def test_a_missing_program_skips_a_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-program is not installed"):
        require_program("no-such-program")


def test_a_missing_program_fails_a_test_where_ci_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-program is not installed"):
        require_program("no-such-program")
