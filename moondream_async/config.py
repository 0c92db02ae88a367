"""Settings: keys, base URL, timeouts, retries and sampling, checked before any request."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, TypeVar, cast
from urllib.parse import SplitResult, quote, urlsplit

import attrs

from ._hidden import HiddenStr, hide_credentials, is_credential, without_query
from ._scalars import to_python
from .errors import ConfigurationError

KEYS_URL = "https://moondream.ai/c/cloud/api-keys"
FAL_KEYS_URL = "https://fal.ai/dashboard/keys"
DEFAULT_BASE_URL = "https://api.moondream.ai/v1"
SKILLS = ("query", "caption", "detect", "point", "segment")
RETRY_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})

_MIN_LENGTH_WITH_ENDING = 16  # characters; the last four of longer keys may be shown
SHORTEST_SECRET = 8
"""Characters; shorter keys are not redacted from errors: "test" is a word, not a secret."""

H = TypeVar("H")

_FOREVER = 1e9  # seconds; clocks overflow not far beyond
_ROUTES = frozenset({*SKILLS, "models", "batch", "chat", "completions", "tuning"})
_LEGAL_HEADER_VALUE = re.compile(r"[\x21-\x7e]+")
_LEGAL_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

Length = Literal["short", "normal", "long"]
SpatialRef = tuple[float, float] | tuple[float, float, float, float] | list[float]
"""A point `[x, y]` or a box `[x_min, y_min, x_max, y_max]`, each 0..1 of the upright image."""


class SamplingSettings(TypedDict, total=False):
    """The wire's `settings`: how the answer is sampled. Unset fields take the server's default.

    Keys:
        temperature: At least 0; 0 is greedy. Server default 0.2 (query, caption), 0 (the rest).
        top_p: Above 0, at most 1. Server default 0.9 (query, caption), 1 (the rest).
        max_tokens: At least 1. Server default 768.
        max_objects: At least 1; detect and point return no more than this. Server default 50
            to 150: objects beyond that are silently left out.
    """

    temperature: float
    top_p: float
    max_tokens: int
    max_objects: int


def _seconds(*, above_zero: bool) -> Callable[[Any, Any, Any], None]:
    def check(_: Any, field: Any, value: Any) -> None:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not 0 <= value < _FOREVER or (above_zero and value == 0):
            least = "above 0" if above_zero else "of at least 0"
            raise ConfigurationError(f"{field.name} must be a finite number of seconds {least}, not {value!r}.")

    return check


def _whole(_: Any, field: Any, value: Any) -> None:
    check_whole(field.name, value, least=1)


def _boolean(_: Any, field: Any, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigurationError(f"{field.name} must be True or False, not {value!r}.")


def _statuses(values: Iterable[int]) -> frozenset[int]:
    try:
        statuses = frozenset(to_python(value) for value in values)
    except TypeError:
        raise ConfigurationError(f"statuses must be HTTP statuses such as {{429, 503}}, not {values!r}.") from None
    for status in statuses:
        if not isinstance(status, int) or not 100 <= status <= 599:
            raise ConfigurationError(f"statuses must be whole numbers from 100 to 599, not {status!r}.")
    return statuses


@attrs.frozen(kw_only=True)
class Timeouts:
    """Time limits of one attempt, in seconds. None of the three can be infinite.

    Args:
        connect: For opening the connection, TLS included. Default 10.
        idle: Between two reads: until the answer starts, and then between bytes or stream events.
            Default 120, which is above the 100 s after which Cloudflare gives up.
        total: For the whole attempt, up to the last byte or stream event. Default 600.
            `RetryPolicy.deadline` limits all attempts together.

    Raises:
        ConfigurationError: A value is not a finite number above 0.
    """

    connect: float = attrs.field(default=10.0, converter=to_python, validator=_seconds(above_zero=True))
    idle: float = attrs.field(default=120.0, converter=to_python, validator=_seconds(above_zero=True))
    total: float = attrs.field(default=600.0, converter=to_python, validator=_seconds(above_zero=True))

    @classmethod
    def of(cls, value: Timeouts | float | None) -> Timeouts:
        """Return the timeouts for what a user may pass: None is the default, a number limits each attempt."""
        value = to_python(value)
        if value is None:
            return cls()
        if isinstance(value, Timeouts):
            return value
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ConfigurationError(f"timeout must be Timeouts(...) or a number of seconds, not {value!r}.")
        base = cls()
        return cls(connect=min(base.connect, value), idle=value, total=value)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """When to retry a failed call, and how long to wait first.

    The wait before attempt n+1 is `backoff * 2**(n-1)` seconds, at most `max_backoff`, times a
    random number in 0..1 (full jitter). A `Retry-After` header replaces this wait.

    Args:
        attempts: The maximum number of requests per call; 1 means no retry. Default 4. A refusal for load (429, or
            Station's "Queue is full") does not count while other calls of the client get through; the call
            gives up when none got through for 60 s.
        backoff: The base of the wait, in seconds. Default 0.5.
        max_backoff: The cap of the wait, in seconds. Default 30.
        max_retry_after: The longest `Retry-After` to wait for, in seconds. A longer one raises
            at once, with `.retry_after` on the error. Default 120.
        statuses: The HTTP statuses to retry. Default 408, 425, 429, 500, 502, 503, 504, 520-524.
        retry_timeouts: Whether to retry after a timeout. Default True. The server may
            have processed, and billed, the first request.
        deadline: A limit for all attempts and waits together, in seconds. Default None: no limit.

    Raises:
        ConfigurationError: A value is out of range.
    """

    attempts: int = attrs.field(default=4, converter=to_python, validator=_whole)
    backoff: float = attrs.field(default=0.5, converter=to_python, validator=_seconds(above_zero=False))
    max_backoff: float = attrs.field(default=30.0, converter=to_python, validator=_seconds(above_zero=False))
    max_retry_after: float = attrs.field(default=120.0, converter=to_python, validator=_seconds(above_zero=False))
    statuses: frozenset[int] = attrs.field(default=RETRY_STATUSES, converter=_statuses)
    retry_timeouts: bool = attrs.field(default=True, converter=to_python, validator=_boolean)
    deadline: float | None = attrs.field(
        default=None, converter=to_python, validator=attrs.validators.optional(_seconds(above_zero=True))
    )

    def __reduce__(self) -> tuple[Any, ...]:
        # The order of a set differs between equal ones; caches compare pickles.
        values = attrs.asdict(self, recurse=False) | {"statuses": tuple(sorted(self.statuses))}
        return functools.partial(RetryPolicy, **values), ()

    @classmethod
    def of(cls, value: RetryPolicy | int | None) -> RetryPolicy:
        """Return the policy for what a user may pass: None is the default, an integer is `attempts`."""
        value = to_python(value)
        if value is None:
            return cls()
        if isinstance(value, RetryPolicy):
            return value
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigurationError(f"retry must be RetryPolicy(...) or a number of attempts, not {value!r}.")
        return cls(attempts=value)


class Secret:
    """An API key that is never shown in a repr, and so not in logs or traceback locals.

    Args:
        value: The key, or None, or a function that returns the key; another `Secret` keeps its source.
        source: Where the key came from, for errors: an argument, an environment variable, or a phrase.

    Attributes:
        provider: The function that returned the key, if any.
    """

    __slots__ = ("_value", "provider", "source")

    def __init__(self, value: object, source: str | None = None) -> None:
        self._value: object = value._value if isinstance(value, Secret) else value
        self.source: str | None = value.source if isinstance(value, Secret) and source is None else source
        self.provider: Callable[..., object] | None = value.provider if isinstance(value, Secret) else None

    @classmethod
    def resolve(
        cls, explicit: Secret, *, source: str = "api_key", variable: str = "MOONDREAM_API_KEY"
    ) -> Secret | None:
        """Return the cleaned key: the explicit one, else the environment's, else None.

        Spaces and quotes around the key are dropped.

        Args:
            explicit: The user's argument; it holds None if there is none.
            source: Name of the argument, for errors.
            variable: Name of the environment variable.

        Raises:
            ConfigurationError: The key cannot be a header value.
        """
        secret, source = explicit, explicit.source or source
        provider = explicit._value if callable(explicit._value) else None
        if provider is not None:
            secret = cls(_call_provider(provider, source))
        elif explicit._value is None:
            source, secret = variable, cls(os.getenv(variable))
        if secret._value is None:
            return None
        if not isinstance(secret._value, str):
            raise ConfigurationError(f"{source} must be a str, or a function that returns one.")
        secret = cls(secret._value.strip().strip("\"'").strip(), source)
        secret.provider = provider
        if not secret._value:
            return None
        if not _LEGAL_HEADER_VALUE.fullmatch(secret.reveal()):
            raise ConfigurationError(
                f"{source} has characters that no key has (spaces, line breaks, control or non-ASCII "
                "characters). Copy the key again; it is one line of letters, digits and punctuation."
            )
        return secret

    def reveal(self) -> str:
        """Return the key itself, for the one place that writes the header; its repr is hidden."""
        return HiddenStr(self._value)

    def describe(self) -> str:
        """Say which key it is: where it came from, and its last four characters if it has at least 16."""
        secret = self.reveal().rpartition(":")[2]
        ending = f" ending in {secret[-4:]!s}" if len(secret) >= _MIN_LENGTH_WITH_ENDING else ""
        source = self.source or "api_key"
        return (
            f"the key{ending} from {source}="
            if source.isidentifier() and source.islower()
            else f"the key{ending} from {source}"
        )

    def parts(self) -> list[str]:
        """Return the key, and the secret of `id:secret`, to keep out of errors; not those as short as words."""
        return [part for part in {self.reveal(), self.reveal().partition(":")[2]} if len(part) >= SHORTEST_SECRET]

    def __repr__(self) -> str:
        return "Secret('***')"


def _call_provider(provider: Callable[[], Any], source: str) -> object:
    try:
        return provider()
    except Exception as exc:  # whatever the user's function raises
        problem = type(exc).__name__  # not its text, which may show the key
    raise ConfigurationError(f"The function passed as {source} raised {problem}.")


@attrs.frozen
class Server:
    """The server to call: base URL ending in `/v1`, key and default model; and others that are as good."""

    base_url: str
    key: Secret | None
    model: str | None
    others: tuple[str, ...] = ()

    @property
    def base_urls(self) -> tuple[str, ...]:
        """All base URLs."""
        return self.base_url, *self.others


NO_KEY = (
    "No API key. Either: (1) set MOONDREAM_API_KEY, pass api_key=..., or, for the command, run "
    f"`moondream-async login` (keys: {KEYS_URL}); (2) run Moondream Station and pass "
    "base_url='http://localhost:2020/v1'; (3) try without a model: "
    "`moondream-async sandbox`, or --sandbox on the command line."
)


def resolve_server(key: Secret, base_url: str | Sequence[str] | None, model: str | None) -> Server:
    """Combine arguments and environment; explicit arguments win.

    Raises:
        ConfigurationError: A base URL is unusable or listed twice, the key is illegal, or there is no key
            although a base URL is Moondream Cloud's.
    """
    url = base_url if base_url is not None else os.getenv("MOONDREAM_BASE_URL") or os.getenv("MOONDREAM_ENDPOINT")
    first, *others = _base_urls(url)
    secret = Secret.resolve(key)
    if secret is None and DEFAULT_BASE_URL in (first, *others):
        raise ConfigurationError(NO_KEY)
    name = check_model(model if model is not None else os.getenv("MOONDREAM_MODEL") or None)
    return Server(first, secret, name, tuple(others))


def _base_urls(given: str | Sequence[str] | None) -> list[str]:
    """Return the base URLs of the argument `base_url`: one, or several in a list."""
    if given is None:
        return [DEFAULT_BASE_URL]
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [normalise_base_url(given)]
    urls = [normalise_base_url(url) for url in given]
    if not urls:
        raise ConfigurationError("base_url must be a URL, or a list of at least one.")
    twice = next((url for index, url in enumerate(urls) if url in urls[:index]), None)
    if twice is not None:
        raise ConfigurationError(f"base_url has {twice} twice.")
    return urls


def normalise_base_url(url: str) -> str:
    """Return the URL with exactly one `/v1` at its end.

    Raises:
        ConfigurationError: Not an http(s) URL, or it names a skill, a query or credentials.
    """
    if not isinstance(url, str):
        raise ConfigurationError(f"base_url must be a str, not {type(url).__name__}.")
    text = url.strip().strip("\"'").strip()
    parts = _split(text)
    segments = [segment for segment in parts.path.split("/") if segment]
    skill = next((s for s in segments if s in _ROUTES), None)
    if skill is not None:
        raise ConfigurationError(
            f"base_url must not name a skill or route, and {text!r} has /{skill}: give the part up to /v1."
        )
    while segments and segments[-1] == "v1":
        segments.pop()
    return f"{parts.scheme.lower()}://{parts.netloc}/{'/'.join([*segments, 'v1'])}"


def _split(text: str) -> SplitResult:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ConfigurationError("base_url is not a URL: its host or port is malformed.") from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError("base_url must hold no user name or password; pass api_key=... instead.")
    if parts.scheme.lower() not in ("http", "https") or not parts.hostname or port == 0:
        raise ConfigurationError(
            f"base_url must look like 'https://host/v1' or 'http://localhost:2020/v1', not {text!r}."
        )
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ConfigurationError("base_url holds spaces or control characters.")
    if "," in text or "://" in parts.path:
        raise ConfigurationError(f"base_url must be one URL, not {text!r}; pass a list for several servers.")
    if parts.query or parts.fragment:
        raise ConfigurationError(f"base_url must have no '?' or '#' part: give {without_query(text)!r}.")
    return parts


def check_model(model: str | None) -> str | None:
    """Check a model name (wire field `model`): a non-empty str, or None for the server's default."""
    if model is None:
        return None
    if not isinstance(model, str) or not model.strip():
        raise ConfigurationError(f"model must be a non-empty str such as 'moondream3-preview', not {model!r}.")
    return model.strip()


def hidden_headers(headers: H) -> H:
    """Hide the values of the credentials among a user's headers, before anything is checked that could raise.

    Args:
        headers: As given; what is not a mapping is returned as it is.
    """
    if not isinstance(headers, Mapping):
        return headers
    given: dict[Any, Any] = dict(headers)  # pyright: ignore[reportUnknownArgumentType]
    hidden = {
        name: HiddenStr(value) if isinstance(name, str) and isinstance(value, str) and is_credential(name) else value
        for name, value in given.items()
    }
    return cast("H", hidden)


def check_headers(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Check extra headers: legal names and values, and none that the client sets itself."""
    checked: dict[str, str] = {}
    if headers is not None and not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a dict of names and values, not {type(headers).__name__}.")
    for name, value in (headers or {}).items():
        if not isinstance(name, str) or not _LEGAL_HEADER_NAME.fullmatch(name):
            raise ConfigurationError(f"{name!r} is not a legal header name.")
        if name.lower() in ("content-length", "transfer-encoding", "host", "connection"):
            raise ConfigurationError(f"The header {name!r} is set by the client and cannot be given.")
        if not isinstance(value, str) or not re.fullmatch(r"[\x20-\x7e\t]*", value):
            raise ConfigurationError(f"The value of the header {name!r} must be printable ASCII.")
        checked |= hide_credentials({name.lower(): value.strip()})
    return checked


def check_rate_limit(rate: float | None) -> float | None:
    """Check `rate_limit`: requests per second above 0, or None to adapt to the server."""
    return check_positive("rate_limit", rate, "requests per second")


def check_whole(name: str, value: int, *, least: int) -> int:
    """Check a whole number of at least `least`."""
    value = to_python(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return value


def check_seconds(name: str, value: float | None) -> float | None:
    """Check a time.

    Raises:
        ConfigurationError: It is not a number of seconds above 0, nor None.
    """
    return check_positive(name, value, "a number of seconds")


def check_positive(name: str, value: object, unit: str) -> float | None:
    """Check a quantity.

    Raises:
        ConfigurationError: It is not a number above 0 and below one billion, nor None.
    """
    value = to_python(value)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ConfigurationError(f"{name} must be {unit} above 0, not {value!r}.")
    return float(value)


def path_part(name: str, value: object) -> str:
    """Return a server's id for something, quoted for a URL.

    Raises:
        ConfigurationError: It is not a string, or is empty.
    """
    if not isinstance(value, str) or not value.strip() or value.strip(".") == "":
        raise ConfigurationError(f"{name} must be a non-empty str, not {value!r}.")
    return quoted(name, value.strip(), safe="@")


def quoted(name: str, value: object, *, safe: str = "") -> str:
    """Percent-encode a part of a URL.

    Args:
        name: Of the argument, for the error.
        value: A str.
        safe: Characters that stay as they are.

    Raises:
        ConfigurationError: It is not a str, or has lone surrogates, which no URL can hold.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a str, not {type(value).__name__}.")
    try:
        return quote(value, safe=safe)
    except UnicodeEncodeError:
        raise ConfigurationError(f"{name} must be text that UTF-8 can encode, not {value!r}.") from None
