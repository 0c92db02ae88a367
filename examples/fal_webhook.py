"""Receive fal.ai's webhooks with FastAPI: accept only webhooks that fal signed, and store each result once.

    pip install 'moondream-async[fal]' fastapi uvicorn
    uvicorn fal_webhook:app

Submit with `await client.submit("fal-ai/moondream/batched", {...}, webhook_url="https://your.host/fal")`.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, HTTPException, Request

from moondream_async.fal import AsyncFalClient, WebhookVerificationError

results: dict[str, object] = {}  # by request id; use a database in production


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    async with AsyncFalClient() as app.state.fal:  # reads FAL_KEY; set FAL_BASE_URL to try it with a sandbox
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/fal")
async def receive(request: Request) -> dict[str, str]:
    body = await request.body()  # the raw body, because the signature covers these bytes
    try:
        event = await app.state.fal.verify_webhook(request.headers, body)
    except WebhookVerificationError as exc:
        raise HTTPException(403, str(exc)) from None
    if event.request_id not in results:  # fal may deliver a webhook more than once
        results[event.request_id] = event.payload if event.ok else {"error": event.error}
    return {"status": "ok"}
