"""`Client` where processes are rough: Ctrl-C, fork, exit, threads; each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest

posix = pytest.mark.skipif(os.name != "posix", reason="needs signals and fork")

PRELUDE = """
import atexit, os, signal, sys, threading, time
import moondream_async as md
URL = {url!r}
"""


def start(code: str, url: str) -> subprocess.Popen[str]:
    script = PRELUDE.format(url=url) + textwrap.dedent(code)
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # so that children of a hanging script can be ended with it
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        pytest.fail("the process hung")
    return process.returncode, out, err


def run(code: str, url: str) -> str:
    status, out, err = finish(start(code, url))
    assert status == 0, err
    # Under -X dev asyncio reports slow steps, such as the first import of httpx; nothing else may be said.
    noise = [line for line in err.splitlines() if line and not line.startswith("Executing <")]
    assert noise == []
    return out


@pytest.fixture
def url(moondream_sandbox: Any) -> str:
    return str(moondream_sandbox.base_url)


def interrupt(code: str, url: str) -> tuple[int, str, str]:
    """Run until the script says `ready`, then press Ctrl-C."""
    process = start(code, url)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    return finish(process)


@posix
def test_ctrl_c_during_a_call_stops_the_work(url: str) -> None:
    status, out, err = interrupt(
        """
        client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "latency=20"})
        threading.Timer(0.3, lambda: print("ready")).start()
        try:
            client.query(question="?")
        except KeyboardInterrupt:
            session = client._async._api.http.session
            limiter = client._portal.call(lambda: slots(session))
            print("slots", limiter)
            client.close()
            print([t.name for t in threading.enumerate() if t.name == "moondream-async"])
            raise

        """.replace(
            "limiter = client",
            "async def slots(s): return s._limiters.get().borrowed_tokens\n            limiter = client",
        ),
        url,
    )
    assert status == -signal.SIGINT, err
    assert out == "slots 0\n[]\n"


@posix
def test_ctrl_c_during_a_stream_stops_the_work(url: str) -> None:
    status, out, err = interrupt(
        """
        client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "drip=0.05"})
        stream = client.query(question="word " * 300, stream=True)
        next(stream)
        threading.Timer(0.2, lambda: print("ready")).start()
        try:
            for piece in stream:
                pass
        except KeyboardInterrupt:
            print("reader ended", stream._task.wait(0.0))
            raise
        """,
        url,
    )
    assert status == -signal.SIGINT, err
    assert out == "reader ended True\n"


@posix
def test_ctrl_c_with_no_handler_ends_the_process(url: str) -> None:
    status, _, err = interrupt(
        """
        threading.Timer(0.3, lambda: print("ready")).start()
        md.Client(base_url=URL, headers={"X-Sandbox-Fault": "latency=20"}).query(question="?")
        """,
        url,
    )
    assert status == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_an_unclosed_client_does_not_hang_the_interpreter(url: str) -> None:
    assert run("client = md.Client(base_url=URL)\nprint(client.query(question='?').finish_reason)", url) == "stop\n"


def test_an_open_stream_does_not_hang_the_interpreter(url: str) -> None:
    code = """
    client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "drip=0.05"})
    with client.query(question="word " * 300, stream=True) as stream:
        print(len(next(stream)) > 0)
    """
    assert run(code, url) == "True\n"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_calls_from_atexit_hooks(url: str, host: str) -> None:
    code = """
    def bye():
        print("hook", client.query(question="?").finish_reason)
        print("fresh", md.Client(base_url=URL).query(question="?").finish_reason)
        client.close()
    atexit.register(bye)
    client = md.Client(base_url=URL)
    client.query(question="?")
    """
    assert run(code, url.replace("127.0.0.1", host)) == "hook stop\nfresh stop\n"


@posix
def test_fork_in_parent_and_child(url: str) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about fork and threads
    client = md.Client(base_url=URL)
    client.query(question="?")
    for _ in range(3):
        child = os.fork()
        if child == 0:
            said = client.query(question="?").finish_reason
            with md.Client(base_url=URL) as other:
                other.query(question="?")
            os._exit(0 if said == "stop" else 9)
        assert client.query(question="?").finish_reason == "stop"
        assert os.waitpid(child, 0)[1] == 0
    client.close()
    print("done")
    """
    assert run(code, url) == "done\n"


@posix
def test_a_stream_does_not_cross_a_fork(url: str) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore")
    client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "drip=0.02"})
    stream = client.query(question="word " * 50, stream=True)
    next(stream)
    child = os.fork()
    if child == 0:
        try:
            list(stream)
        except md.ConfigurationError:
            os._exit(0)
        os._exit(9)
    assert os.waitpid(child, 0)[1] == 0
    stream.close()
    client.close()
    print("done")
    """
    assert run(code, url) == "done\n"


def test_threads_and_close(url: str) -> None:
    code = """
    client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "latency=0.05"})
    seen = set()
    def work():
        while True:
            try:
                client.query(question="?")
            except md.MoondreamError as exc:
                seen.add(type(exc).__name__)
                return
    threads = [threading.Thread(target=work) for _ in range(8)]
    [t.start() for t in threads]
    time.sleep(0.2)
    client.close()
    [t.join(10) for t in threads]
    print(any(t.is_alive() for t in threads), seen)
    """
    assert run(code, url) == "False {'ConfigurationError'}\n"


def test_a_dropped_client_leaves_no_socket(url: str) -> None:
    code = """
    import gc
    for _ in range(20):
        md.Client(base_url=URL).query(question="?")
    gc.collect()
    time.sleep(0.1)
    fds = os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd") else []
    print(len(fds) < 20)
    """
    assert run(code, url) == "True\n"


def test_close_ends_the_calls_of_other_threads(url: str) -> None:
    code = """
    client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "latency=20"})
    said = []
    def work():
        try:
            client.query(question="?")
        except md.ConfigurationError as exc:
            said.append(str(exc))
    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    client.close()
    thread.join(5)
    print(thread.is_alive(), said)
    """
    assert run(code, url) == "False ['The client was closed while the call was running.']\n"


@posix
def test_a_forked_child_that_exits_normally_ends(url: str) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)
    client = md.Client(base_url=URL)
    client.models()
    for way in ("nothing", "use", "close", "drop"):
        child = os.fork()
        if child == 0:
            if way == "use":
                client.models()
            elif way == "close":
                client.close()
            elif way == "drop":
                del client
            sys.exit(0)
        assert os.waitpid(child, 0)[1] == 0
    client.close()
    print("done")
    """
    assert run(code, url) == "done\n"


def test_closing_ends_streams_that_were_left_open(url: str) -> None:
    code = """
    with md.Client(base_url=URL, headers={"X-Sandbox-Fault": "drip=0.5"}) as client:
        stream = client.query(question="word " * 50, stream=True)
        for piece in stream:
            break
    try:
        list(stream)
    except md.StreamInterruptedError as exc:
        print(exc)
    """
    assert run(code, url) == "The client was closed while the stream was open.\n"


FORKED = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # Python's own about fork and threads

    def in_child(work):
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # a child that hangs is killed, and its status says so
            work()
            os._exit(0)
        return child

    def status(child):
        return os.waitpid(child, 0)[1]
"""


@posix
@pytest.mark.parametrize(
    "module",
    [
        "moondream_async._client.async_client",
        "moondream_async._sync.portal",
        "anyio._backends._asyncio",
        "moondream_async._http.client",
        "httpx",
        "moondream_async._http.http1",
        "moondream_async._images.encoder",
        "PIL.Image",
        "PIL.GifImagePlugin",
    ],
)
def test_a_fork_while_the_first_call_imports(module: str, url: str) -> None:
    code = f"""
    {FORKED}
    importing = threading.Event()

    class Slow:
        def find_spec(self, name, *_):
            if name == {module!r}:
                importing.set()
                time.sleep(0.3)
            return None

    sys.meta_path.insert(0, Slow())
    gif = bytes.fromhex("47494638396101000100000000002c00000000010001000002024401003b")
    def work():
        client = md.Client(base_url=URL)
        client.caption(gif)
        client.close()
    thread = threading.Thread(target=work)
    thread.start()
    assert importing.wait(10)
    child = in_child(work)
    thread.join()
    print(status(child))
    """
    assert run(code, url) == "0\n"


@posix
def test_forks_at_many_moments_of_the_first_call(url: str) -> None:
    code = f"""
    {FORKED}
    seen = set()
    for step in range(60):
        client = md.Client(base_url=URL, retry=1)
        thread = threading.Thread(target=client.models)
        thread.start()
        time.sleep(step % 20 * 0.0002)
        child = in_child(client.models)
        thread.join()
        seen.add(status(child))
        client.close()
    print(seen)
    """
    assert run(code, url) == "{0}\n"


@posix
def test_multiprocessing_by_fork(url: str) -> None:
    code = f"""
    {FORKED}
    import multiprocessing
    client = md.Client(base_url=URL)
    stop = threading.Event()
    def busy():
        while not stop.is_set():
            client.models()
    threads = [threading.Thread(target=busy) for _ in range(3)]
    [thread.start() for thread in threads]
    def ask(_):
        signal.alarm(20)
        return client.query(question="?").finish_reason
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map_async(ask, range(6)).get(25))
    stop.set()
    [thread.join() for thread in threads]
    client.close()
    """
    assert run(code, url) == f"{['stop'] * 6}\n"


@posix
@pytest.mark.parametrize("way", ["query", "stream", "start"])
def test_a_fork_in_the_middle_of_a_call(way: str, url: str) -> None:
    """By a signal handler, which returns in the child: the call goes on in the parent only."""
    code = f"""
    {FORKED}
    children = []
    parent = os.getpid()
    def fork(*_):
        child = os.fork()
        if child:
            children.append(child)
        else:
            signal.alarm(20)
    signal.signal(signal.SIGUSR1, fork)
    client = md.Client(base_url=URL, headers={{"X-Sandbox-Fault": "latency=1;on=query" if {way!r} == "query" else "drip=0.1"}})
    if {way!r} == "start":  # while the background loop is being started
        class Slow:
            def find_spec(self, name, *_):
                if name == "anyio._backends._asyncio":
                    time.sleep(0.2)  # until `Thread.start`, which a fork in it would hang, has returned
                    os.kill(parent, signal.SIGUSR1)
                    time.sleep(1.5)
                return None
        sys.meta_path.insert(0, Slow())
    else:
        client.models()
        def fork_soon():
            while not client.stats.in_flight:
                time.sleep(0.01)
            time.sleep(0.1)
            os.kill(parent, signal.SIGUSR1)
        threading.Thread(target=fork_soon).start()
    try:
        if {way!r} != "stream":
            said = client.query(question="?").finish_reason
        else:
            said = client.query(question="?", stream=True).result().finish_reason
    except md.ConfigurationError as exc:
        os._exit(0 if os.getpid() != parent and "fork" in str(exc) else 8)
    if os.getpid() != parent:
        os._exit(9)
    print(said, [status(child) for child in children])
    client.close()
    """
    assert run(code, url) == "stop [0]\n"


@posix
def test_a_run_does_not_cross_a_fork(url: str) -> None:
    code = f"""
    {FORKED}
    gif = bytes.fromhex("47494638396101000100000000002c00000000010001000002024401003b")
    client = md.Client(base_url=URL)
    run = client.map("caption", [gif] * 5)
    next(run)
    def refused():
        try:
            next(run)
        except md.ConfigurationError as exc:
            run.close()
            assert "fork" in str(exc)
            assert len(list(client.map("caption", [gif] * 3))) == 3
            return
        os._exit(9)
    child = in_child(refused)
    print(status(child), len(list(run)))
    client.close()
    """
    assert run(code, url) == "0 4\n"


def test_an_interrupt_while_a_stream_is_made(url: str) -> None:
    code = """
    import gc
    client = md.Client(base_url=URL, headers={"X-Sandbox-Fault": "drip=0.05"})
    start = client._portal.start
    from moondream_async._sync import streams
    def interrupted(func, *more):
        if func.__name__ == "run" and not more:
            raise KeyboardInterrupt
        return start(func, *more)
    client._portal.start = interrupted
    try:
        client.query(question="word " * 50, stream=True)
    except KeyboardInterrupt:
        print("interrupted")
    gc.collect()
    client._portal.start = start
    while client.stats.in_flight:
        time.sleep(0.01)
    client.close()
    """
    assert run(code, url) == "interrupted\n"


@posix
def test_ctrl_c_at_any_moment_leaves_nothing_behind(url: str) -> None:
    code = """
    import gc
    client = md.Client(base_url=URL, retry=1)
    client.models()
    interrupted = 0
    for step in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0002 + step % 50 * 0.0002)
            if step % 2:
                client.query(question="?")
            else:
                with client.query(question="?", stream=True) as stream:
                    stream.result()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            interrupted += 1
    gc.collect()
    end = time.monotonic() + 10
    while client.stats.in_flight and time.monotonic() < end:
        time.sleep(0.01)
    print(interrupted > 10, client.stats.in_flight)
    client.close()
    print([t.name for t in threading.enumerate() if t.name == "moondream-async"])
    """
    handler = "signal.signal(signal.SIGALRM, signal.default_int_handler)"
    # Not `run`: an interrupt just before `with`, or inside a `__del__`, leaves Python itself to warn of the stream.
    status, out, err = finish(start(f"{handler}\n{textwrap.dedent(code)}", url))
    assert (status, out) == (0, "True 0\n[]\n"), err


def test_a_call_while_the_interpreter_exits(url: str) -> None:
    code = """
    class Last:
        def __init__(self, client):
            self.client, self.error = client, md.ConfigurationError  # nothing can be imported any more at exit
        def __del__(self):
            try:
                self.client.models()
            except self.error as exc:
                print(exc)
    last = Last(md.Client(base_url=URL))
    print(len(last.client.models()) > 0)
    """
    assert run(code, url) == "True\nThe interpreter is exiting; no more calls can be made.\n"
