"""A connection's secrets: the customer key that it may hold, and the words that must never appear in a log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from orbit_airflow.engine.encryption import CustomerKey
from orbit_airflow.engine.errors import ConfigError

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper
    from botocore.config import Config

# Its name has "secret" in it, so that Airflow's own user interface and masker hide it, too.
CUSTOMER_KEY_PLACE = "orbit_sse_customer_secret"


def customer_key_of(service_config: Mapping[str, Any]) -> CustomerKey | None:
    """The SSE-C key of a connection's ``service_config.s3``; ConfigError, without the value, when it is none."""
    text = service_config.get(CUSTOMER_KEY_PLACE)
    if text is None or text == "":
        return None
    try:
        return CustomerKey.parse(text)
    except ConfigError as exc:
        raise ConfigError(f"{exc.message} (in the connection's service_config.s3.{CUSTOMER_KEY_PLACE})") from None


def secrets_of(conn: AwsConnectionWrapper, config: Config | None, key: CustomerKey | None) -> Iterator[str]:
    """What the masker must know of a connection, beside the password that Airflow has told it already."""
    given = (conn.password, conn.aws_secret_access_key, conn.aws_session_token)
    yield from (text for text in given if text)
    if key is not None:
        yield from (key.base64, key.md5, key.key.hex())
    proxies: Mapping[str, Any] = getattr(config, "proxies", None) or {}
    for address in proxies.values():
        password = _password_in(str(address))
        if password:
            yield from {password, unquote(password)}


def _password_in(address: str) -> str | None:
    try:
        return urlsplit(address if "://" in address else f"//{address}").password
    except ValueError:
        return None


_KEY_LIKE = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token", "access_key", "secret_key", "password")


def refuse_secrets(where: str, options: Mapping[str, Any] | None) -> None:
    """Refuse keys in a DAG's code: whoever may read the DAG would have them. ConfigError names the option alone."""
    for name in options or {}:
        if isinstance(name, str) and name.lower() in _KEY_LIKE:
            raise ConfigError(
                f"{name} does not belong into {where}: keys are the `aws` connection's login and password"
            )
    proxies = (options or {}).get("proxies")
    if isinstance(proxies, Mapping) and any(_password_in(str(address)) for address in proxies.values()):
        raise ConfigError(
            f"a proxy's password does not belong into {where}: give the proxy in the connection's config_kwargs, or as "
            "HTTPS_PROXY in the worker's environment"
        )
