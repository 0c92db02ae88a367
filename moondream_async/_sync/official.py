"""`vl` and `ft`: this client under the names and parameters of the official `moondream` package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .._public import public
from ..config import Secret
from ..errors import ConfigurationError
from .client import Client

if TYPE_CHECKING:
    from .finetune import Finetune


@public()
def vl(
    api_key: str | None = None, endpoint: str | None = None, local: bool = False, model: str | None = None
) -> Client:
    """A `Client`, under the name and parameters of the official `moondream` package.

    Args:
        api_key: The key. Default: `MOONDREAM_API_KEY`.
        endpoint: The server, `base_url` of `Client`.
        local: Not supported: in-process inference is the official package's; run Moondream Station and
            pass `endpoint="http://localhost:2020/v1"`.
        model: The model of every call.

    Raises:
        ConfigurationError: A value cannot be used, or `local` is True.
    """
    api_key = cast("Any", Secret(api_key))  # no local holds the key in the open
    if local:
        raise ConfigurationError(
            "local=True runs the model in this process, which only the official package does. "
            "Run Moondream Station and pass endpoint='http://localhost:2020/v1'."
        )
    return Client(api_key, base_url=endpoint, model=model)


@public()
def ft(
    api_key: str | None = None,
    *,
    name: str | None = None,
    rank: int | None = None,
    finetune_id: str | None = None,
    endpoint: str | None = None,
) -> Finetune:
    """A finetune, under the name and parameters of the official `moondream` package.

    Args:
        api_key: The key. Default: `MOONDREAM_API_KEY`.
        name: Of a new finetune, or of one that there is.
        rank: Of its LoRA: 8, 16, 24 or 32.
        finetune_id: Of one that there is; instead of name and rank.
        endpoint: The server, with or without its `/tuning`.

    Raises:
        ConfigurationError: A value cannot be used.
        MoondreamError: As `client.tuning.create` and `retrieve`.
    """
    api_key = cast("Any", Secret(api_key))  # no local holds the key in the open
    if finetune_id is not None and (name is not None or rank is not None):
        raise ConfigurationError("finetune_id cannot be combined with name or rank.")
    if finetune_id is None and (name is None or rank is None):
        raise ConfigurationError("ft needs either finetune_id, or both name and rank.")
    base_url = None if endpoint is None else endpoint.strip().rstrip("/").removesuffix("/tuning")
    tuning = Client(api_key, base_url=base_url).tuning
    return tuning.create(cast("str", name), cast("int", rank)) if finetune_id is None else tuning.retrieve(finetune_id)
