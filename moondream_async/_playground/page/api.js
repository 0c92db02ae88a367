// Prepare a picture, call a skill, and read the events of its response.

const MAX_SIDE = 2048; // pixels; the model sees no more

/** Return the picture upright, on white, at most MAX_SIDE pixels long, as a JPEG. */
export async function prepare(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${file.name || "This"} is not a picture that this browser can open. Use JPEG, PNG or WebP.`);
  }
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#ffffff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return canvas.toDataURL("image/jpeg", 0.9);
}

/** Call a skill, and yield its events; the last one has `completed: true`. */
export async function* call(skill, body, signal) {
  const response = await fetch(`v1/${skill}`, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
  if ((response.headers.get("content-type") || "").startsWith("text/event-stream")) {
    yield* readEvents(response.body);
    return;
  }
  const text = await response.text();
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    throw new Error(`The server answered with status ${response.status}.`);
  }
  if (!response.ok || data.error) throw new Error(messageOf(data, response.status));
  yield { ...data, completed: true };
}

async function* readEvents(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const event of blocks.map(parse)) {
        if (!event) continue;
        if (event.error) throw new Error(messageOf(event));
        yield event;
        if (event.completed) return;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
  throw new Error("The response was interrupted.");
}

function parse(block) {
  const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
  return lines.length ? JSON.parse(lines.map((line) => line.slice(5)).join("\n")) : null;
}

function messageOf(data, status) {
  const error = data.error ?? data.detail;
  const message = error?.message ?? error ?? `The server answered with status ${status}.`;
  return typeof message === "string" ? message : JSON.stringify(message);
}
