"""A Flask app with one sync client for each process.

    pip install moondream-async flask gunicorn
    gunicorn --workers 2 --threads 16 flask_app:app     # or, to try it: flask --app flask_app run

    curl -F image=@photo.jpg localhost:8000/caption
    curl -F image=@photo.jpg -F label=face localhost:8000/detect
    curl -N -F image=@photo.jpg localhost:8000/stream

Without a key, set MOONDREAM_BASE_URL to the address that `moondream-async sandbox` prints.
"""

import atexit
from typing import Any

from flask import Flask, Response, abort, request

from moondream_async import Client, MoondreamError
from moondream_async.web import SSE_HEADERS, error_body, http_status, sse


def create_app(client: Client) -> Flask:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 32 * 1024 * 1024  # bytes; larger uploads get 413

    def image() -> Any:
        upload = request.files.get("image")
        return upload.stream if upload is not None else abort(400, "There is no file named image.")

    @app.post("/caption")
    def caption() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] - Flask calls it
        return client.caption(image()).to_dict()

    @app.post("/detect")
    def detect() -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        return client.detect(image(), request.form["label"]).to_dict()

    @app.post("/stream")
    def stream() -> Response:  # pyright: ignore[reportUnusedFunction]
        events = sse(client.caption(image(), stream=True))  # a failure here gets its own status, below
        return Response(events, headers=dict(SSE_HEADERS))

    @app.errorhandler(MoondreamError)
    def failed(exc: MoondreamError) -> tuple[dict[str, Any], int]:  # pyright: ignore[reportUnusedFunction]
        return error_body(exc), http_status(exc)

    return app


client = Client()  # does no I/O, and works in the processes that a server forks
atexit.register(client.close)
app = create_app(client)
