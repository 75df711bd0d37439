"""The peer of `benchmarks.server`: the upload route as FastAPI's and SQLAlchemy's tutorials would write it.

Pydantic reads the body, one transaction a batch upserts its rows. No identity, no sequence guard, no policy.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel, Field
from sqlalchemy.dialects.sqlite import insert


class Row(BaseModel):
    """One profile."""

    process_key: Annotated[str, Field(min_length=3, max_length=512)]
    event_distribution: dict[str, Annotated[float, Field(ge=0, le=1)]]
    sample_count: Annotated[int, Field(ge=1)]
    entropy_threshold: float
    learned_at_unix: float
    seq: Annotated[int, Field(ge=1)]
    continuous: dict[str, Any] | None = None
    prior_generation: int | None = None


class Batch(BaseModel):
    """One upload."""

    agent_id: str
    batch_id: str
    baselines: list[Row]


def make_app(database: Path) -> FastAPI:
    """Return the application."""
    metadata = sa.MetaData()
    table = sa.Table(
        "baseline",
        metadata,
        sa.Column("agent_id", sa.String(128), primary_key=True),
        sa.Column("process_key", sa.String(512), primary_key=True),
        sa.Column("event_distribution", sa.JSON),
        sa.Column("sample_count", sa.BigInteger),
        sa.Column("entropy_threshold", sa.Float),
        sa.Column("learned_at_unix", sa.Float),
        sa.Column("seq", sa.BigInteger),
        sa.Column("continuous", sa.JSON),
        sa.Column("prior_generation", sa.BigInteger),
    )
    engine = sa.create_engine(f"sqlite:///{database}")
    metadata.create_all(engine)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    statement = insert(table)
    changed = {column.name: statement.excluded[column.name] for column in table.c if not column.primary_key}
    upsert = statement.on_conflict_do_update(index_elements=["agent_id", "process_key"], set_=changed)
    app = FastAPI()

    @app.post("/api/v1/endpoint/baseline/batch")
    def take(batch: Batch) -> dict[str, int]:
        rows = [{"agent_id": batch.agent_id, **row.model_dump()} for row in batch.baselines]
        with engine.begin() as connection:
            connection.exec_driver_sql("PRAGMA synchronous=FULL")
            connection.execute(upsert, rows)
        return {"accepted": len(rows)}

    return app


if __name__ == "__main__":
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    uvicorn.run(
        make_app(folder / "plain.sqlite"),
        host="127.0.0.1",
        port=port,
        ssl_certfile=str(folder / "server" / "pki" / "server.pem"),
        ssl_keyfile=str(folder / "server" / "pki" / "server.pem"),
        log_level="warning",
    )
