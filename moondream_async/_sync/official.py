"""`vl` and `ft`: clients with the names and parameters of the official `moondream` package."""

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
    """Create a `Client` with the parameters of `vl` in the official `moondream` package.

    ```python
    model = vl(api_key="your-key")  # or vl(endpoint="http://localhost:2020/v1") for Station
    ```

    Args:
        api_key: API key. Default: `MOONDREAM_API_KEY`.
        endpoint: Base URL of the server, as `base_url` of `Client`.
        local: Must be False: only the official package runs models in this process, with Photon.
        model: Model of every call. Default: the server's.

    Raises:
        ConfigurationError: An argument is invalid, or `local` is True.
    """
    api_key = cast("Any", Secret(api_key))  # so that tracebacks that show locals hide the key
    if local:
        raise ConfigurationError(
            "local=True runs the model in this process with Photon, which only the official package `moondream` has. "
            "Call that package for it, or pass the endpoint=... of a server that speaks Moondream's API."
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
    """Create or retrieve a finetune with the parameters of `ft` in the official `moondream` package.

    Args:
        api_key: API key. Default: `MOONDREAM_API_KEY`.
        name: Name of a new or existing finetune.
        rank: Rank of its LoRA: 8, 16, 24 or 32.
        finetune_id: Id of an existing finetune, instead of name and rank.
        endpoint: Base URL of the server, with or without `/tuning`.

    Raises:
        ConfigurationError: An argument is invalid.
        MoondreamError: As in `client.tuning.create` and `retrieve`.
    """
    api_key = cast("Any", Secret(api_key))  # so that tracebacks that show locals hide the key
    if finetune_id is not None and (name is not None or rank is not None):
        raise ConfigurationError("finetune_id cannot be combined with name or rank.")
    if finetune_id is None and (name is None or rank is None):
        raise ConfigurationError("ft needs either finetune_id, or both name and rank.")
    base_url = None if endpoint is None else endpoint.strip().rstrip("/").removesuffix("/tuning")
    tuning = Client(api_key, base_url=base_url).tuning
    return tuning.create(cast("str", name), cast("int", rank)) if finetune_id is None else tuning.retrieve(finetune_id)
