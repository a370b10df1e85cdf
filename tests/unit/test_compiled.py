from pathlib import Path

from sqlalchemy import Engine, create_engine, literal, select
from sqlalchemy.engine import Dialect, make_url

from support.compiled import SharedStatements

QUERY = select(literal(1).label("number"))


def compiled_by(engine: Engine) -> object:
    """Run the query, and return the compiled statement that was run."""
    with engine.connect() as connection:
        return connection.execute(QUERY).context.compiled


def test_engines_share_what_was_compiled(tmp_path: Path) -> None:
    first, second = (create_engine(f"sqlite:///{tmp_path / name}") for name in "ab")
    assert compiled_by(first) is compiled_by(second)
    first.dispose()
    second.dispose()


def test_another_dialect_or_version_compiles_its_own_statement() -> None:
    statements = SharedStatements()
    names = ("sqlite", "postgresql+psycopg", "postgresql+psycopg")
    dialects: list[Dialect] = [make_url(f"{name}://").get_dialect()() for name in names]
    for version, dialect in enumerate(dialects):
        dialect.server_version_info = (version,)
        key = (dialect, "a statement")
        assert key not in statements
        statements[key] = version
    assert [statements[dialect, "a statement"] for dialect in dialects] == [0, 1, 2]
