"""`SkillMapper`: a skill as a picklable function over batches of rows."""

from __future__ import annotations

import asyncio
import hashlib
import os
import pickle
import platform
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .._bulk.skill_runner import SkillRunner
from .._client.async_client import AsyncClient
from .._public import public
from .._wire.skills import SKILLS
from ..config import check_rate_limit, check_whole
from ..errors import ConfigurationError
from .batches import Batch, batch_of, check_columns, column_of
from .columns import OWN, arrow_schema, cells, names_of
from .resuming import Output

_clients: dict[bytes, AsyncClient] = {}  # of this process, by their pickle
_lock = threading.Lock()
_NOWHERE = "http://localhost"


@public("distributed")
class SkillMapper:
    """Adds the results of a skill to batches of rows, in any process of any engine.

    It is small and picklable. Its client is created once in each process, from the environment of that process unless
    `client` is given; images are prepared there, too. A bad image is a row with an `error`. A rejected key or missing
    credit raises, and so does a server that cannot be reached for 20 calls in a row.

    The columns added are those of `columns`: for `caption` its text in `caption`, for `detect` a list of boxes in
    `objects`, and for all skills `error`, `error_type`, `finish_reason`, `truncated`, `request_id`, `input_tokens`,
    `output_tokens`.

    ```python
    mapper = SkillMapper("caption", image="path")
    table = mapper.run({"path": ["a.jpg", "b.jpg"]})  # {"path": [...], "caption": [...], "error": [...], ...}
    ```

    Args:
        skill: `"query"`, `"caption"`, `"detect"`, `"point"` or `"segment"`.
        image: The column with the images: paths, URLs, bytes, arrays (RGB, `uint8`), PIL images, or dicts with `bytes`
            or `path`. None for `query` without images. Default `"image"`.
        client: The client; it is pickled without its key, see `AsyncClient`. Default: `AsyncClient()`, from each
            process's environment.
        concurrency: Calls at a time for each batch. Default 32.
        on_error: `"column"` (default) puts errors of items into the column `error`; `"raise"` raises the first.
        rate_limit: Requests per second of each process. Where N processes share a key, give the key's limit / N.
            Default None: each adapts to what the server accepts.
        keep: The given columns that stay, such as `["id"]`; images may be large. Default None: all. None of them may
            have the name of a column that the mapper adds.
        from_columns: Arguments that come from a column: `{"question": "the_column"}`.
        **arguments: Arguments of the skill for all rows, such as `object="car"`.

    Raises:
        ConfigurationError: An argument is not valid.
    """

    def __init__(
        self,
        skill: str,
        *,
        image: str | None = "image",
        client: AsyncClient | None = None,
        concurrency: int = 32,
        on_error: Literal["column", "raise"] = "column",
        rate_limit: float | None = None,
        keep: Sequence[str] | None = None,
        from_columns: Mapping[str, str] | None = None,
        **arguments: Any,
    ) -> None:
        if not isinstance(skill, str) or skill not in OWN:
            raise ConfigurationError(f"skill must be one of {', '.join(OWN)}, not {skill!r}.")
        if on_error not in ("column", "raise"):
            raise ConfigurationError(f"on_error must be 'column' or 'raise', not {on_error!r}.")
        if client is not None and rate_limit is not None:
            raise ConfigurationError("Give rate_limit to the client, or no client.")
        if client is not None and not isinstance(client, AsyncClient):
            raise ConfigurationError(f"client must be an AsyncClient, not {type(client).__name__}.")
        if isinstance(keep, str):
            raise ConfigurationError(f"keep must be a list of columns, such as [{keep!r}].")
        if from_columns is not None and not isinstance(from_columns, Mapping):
            raise ConfigurationError(f"from_columns must be a dict of columns by argument, not {from_columns!r}.")
        if both := set(from_columns or ()) & set(arguments):
            raise ConfigurationError(f"{min(both)} is given twice: as an argument, and in from_columns.")
        self.skill = skill
        self._image = image
        self._client = client
        self._concurrency = check_whole("concurrency", concurrency, least=1)
        self._on_error = on_error
        self._rate_limit = check_rate_limit(rate_limit)
        self._keep = None if keep is None else list(keep)
        self._from_columns = dict(from_columns or {})
        self._arguments = arguments
        self._check_arguments()

    @property
    def columns(self) -> list[str]:
        """The names of the columns that it adds."""
        return names_of(self.skill)

    @property
    def schema(self) -> Any:
        """The Arrow schema of the columns that it adds (extra `parquet`)."""
        return arrow_schema(self.skill)

    async def __call__(self, batch: Any) -> Any:
        """Return a batch with the columns added, in the form in which it came.

        Args:
            batch: A dict of columns, a pandas data frame or an Arrow table.

        Raises:
            ConfigurationError: A column is missing; the message names those that are there. Or a column that stays has
                the name of one that is added. Or this process has no key.
            AuthenticationError: The key was rejected.
            APIConnectionError: The server could not be reached for 20 calls in a row; fewer are rows with an `error`.
            MoondreamError: An item failed, with `on_error="raise"`.
        """
        table = batch_of(batch)
        self._check_names(table)
        size = len(column_of(table, table.names[0])) if table.names else 0
        images = [None] * size if self._image is None else list(map(_image_of, column_of(table, self._image)))
        own = {name: column_of(table, column) for name, column in self._from_columns.items()}
        items = [
            (index, image, {name: values[index] for name, values in own.items()}) for index, image in enumerate(images)
        ]
        rows = await self._run(items)
        added = {name: [row[name] for row in rows] for name in self.columns}
        return table.with_columns(added, self.skill, self._keep)

    async def map_row(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with the columns added, for engines that pass one row at a time.

        Args:
            row: A dict of values by column.

        Raises:
            AuthenticationError: The key was rejected.
            MoondreamError: It failed, with `on_error="raise"`; otherwise the row has an `error`.
        """
        table = batch_of({name: [value] for name, value in dict(row).items()})
        self._check_names(table)
        image = None if self._image is None else _image_of(column_of(table, self._image)[0])
        own = {name: column_of(table, column)[0] for name, column in self._from_columns.items()}
        (added,) = await self._run([(0, image, own)])
        return {name: row[name] for name in (table.names if self._keep is None else self._keep)} | added

    def run(self, batch: Any) -> Any:
        """Process a batch synchronously, as for Dask's partitions.

        Args:
            batch: As for a call.

        Raises:
            ConfigurationError: An event loop is running in this thread, as in a notebook; or as for a call.
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self(batch))
        raise ConfigurationError(
            "An event loop is running, as in notebooks: use `await mapper(batch)` instead of `run`."
        )

    def output(self, folder: Any, *, id: str) -> Output:
        """Open, or create, the folder of Parquet files that an engine writes this mapper's results to.

        Call it before the first run: it records the skill, its arguments and the client's model there.

        Args:
            folder: A folder on a local or shared file system, not in an object store.
            id: The column that identifies items.

        Raises:
            ResultsFileError: It holds results of another skill, or of other arguments.
        """
        return Output(folder, id, self._task())

    def _check_names(self, table: Batch) -> None:
        """Check, before anything is sent, that the result can be built."""
        check_columns(table, self._keep or [])
        kept = table.names if self._keep is None else self._keep
        if taken := [name for name in kept if name in self.columns]:
            raise ConfigurationError(
                f"The batch has a column {taken[0]!r}, which {self.skill} adds: rename it, or omit it with keep=[...]."
            )

    def _check_arguments(self) -> None:
        """Raise for arguments that the skill does not take, or that no call could be made with."""
        client = self._client or AsyncClient(base_url=_NOWHERE)  # only to check
        SkillRunner(client._api, self.skill, self._arguments)  # pyright: ignore[reportPrivateUsage]
        if unknown := [name for name in self._from_columns if name not in SKILLS[self.skill].parameters]:
            raise ConfigurationError(f"{self.skill} takes no {unknown[0]}=.")
        required = SKILLS[self.skill].required
        if required is not None and required not in {*self._arguments, *self._from_columns}:
            columns = f"from_columns={{{required!r}: 'a column'}}"
            raise ConfigurationError(f"{self.skill} needs {required}=..., or {columns}.")

    def _task(self) -> dict[str, Any]:
        model = self._client.model if self._client is not None else AsyncClient(base_url=_NOWHERE).model
        return {"skill": self.skill, "arguments": self._arguments, "from_columns": self._from_columns, "model": model}

    async def _run(self, items: list[Any]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        start: Any = self._connect().map  # the skill is known at run time only
        async with start(self.skill, items, concurrency=self._concurrency, ordered=True, **self._arguments) as outcomes:
            async for outcome in outcomes:
                if outcome.error is not None and self._on_error == "raise":
                    raise outcome.error
                rows.append(cells(self.skill, outcome))
        return rows

    def _connect(self) -> AsyncClient:
        """Return this process's client."""
        given = self._client
        identity = _identity_of_environment(self._rate_limit) if given is None else _identity_of(given)
        with _lock:
            if identity not in _clients:
                _clients[identity] = given or _client_of_environment(self._rate_limit)
            return _clients[identity]

    def __repr__(self) -> str:
        arguments = "".join(f", {name}={value!r}" for name, value in self._arguments.items())
        return f"SkillMapper({self.skill!r}, image={self._image!r}{arguments})"


def _client_of_environment(rate_limit: float | None) -> AsyncClient:
    try:
        return AsyncClient(rate_limit=rate_limit)
    except ConfigurationError as exc:
        problem = exc.message
    raise ConfigurationError(f"{problem} (The environment is that of process {os.getpid()} on {platform.node()}.)")


def _identity_of_environment(rate_limit: float | None) -> bytes:
    """Return what changes with the client that the environment describes, without the key itself."""
    variables = sorted(item for item in os.environ.items() if item[0].startswith("MOONDREAM_"))
    return hashlib.sha256(repr((rate_limit, variables)).encode("utf-8", "surrogateescape")).digest()


def _identity_of(client: AsyncClient) -> bytes:
    """Return what is the same for the copies of a client that an engine unpickles in one process."""
    secret = client._api.settings.server.key  # pyright: ignore[reportPrivateUsage]
    key = b"" if secret is None else hashlib.sha256(secret.reveal().encode()).digest()
    try:
        return pickle.dumps(client) + key
    except Exception:  # its hooks came through another pickler
        return str(id(client)).encode()


def _image_of(value: Any) -> Any:
    """Return the image in a cell; Hugging Face's are dicts of bytes and a path."""
    if isinstance(value, Mapping):
        return value.get("bytes") or value.get("path")  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    return value
