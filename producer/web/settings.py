"""Read the settings of the HTTP front from the environment."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from producer.contract.keys import check_key_prefix


class HttpSettings(BaseSettings):
    """Settings of the HTTP front, from the environment."""

    model_config = SettingsConfigDict(env_prefix="ENROLL_", env_ignore_empty=True)

    broker_url: SecretStr
    result_backend_url: SecretStr | None = None
    key_prefix: Annotated[str, AfterValidator(check_key_prefix)] = ""
    timeout: float = 10
    http_tokens: Path | None = None
    http_audit: Path | None = None
    """The folder in which disclosures are recorded."""
    http_audit_days: Annotated[int, Field(ge=0, le=36_500)] = 400
    """Days after which its files are removed; 0 keeps all."""
    http_max_upload: Annotated[int, Field(ge=1)] = 10 * 1024**3
    http_max_running: Annotated[int, Field(ge=1)] = 200
    http_max_uploads: Annotated[int, Field(ge=1)] = 64
    http_max_waiting: Annotated[int, Field(ge=1)] = 1_000
    http_max_streams: Annotated[int, Field(ge=1)] = 1_000
    http_rate: Annotated[int, Field(ge=0)] = 0
    http_body_wait: Annotated[float, Field(gt=0)] = 60
    http_proxies: str = ""
    """The addresses and networks of trusted proxies, separated by commas."""
    http_grace: Annotated[float, Field(ge=0)] = 20
    """Seconds that calls have to end after SIGTERM."""
