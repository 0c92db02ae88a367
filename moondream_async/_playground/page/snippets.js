// The code for what was just done.

const CLOUD = "https://api.moondream.ai/v1";

/** Return the call in Python. */
export function python({ skill, name, question, objects, length, server, model }) {
  const options = [server === CLOUD ? "" : `base_url=${quote(server)}`, model ? `model=${quote(model)}` : ""];
  const labels = objects.length > 1 ? `[${objects.map(quote).join(", ")}]` : quote(objects[0] ?? "");
  const argument = { query: quote(question), caption: `length=${quote(length)}` }[skill] ?? labels;
  const lines = [
    "from moondream_async import Client",
    "",
    `with Client(${options.filter(Boolean).join(", ")}) as client:`,
  ];
  if (skill === "query" || skill === "caption") {
    lines.push(
      `    with client.${skill}(${quote(name)}, ${argument}, stream=True) as stream:`,
      "        for piece in stream:",
      '            print(piece, end="", flush=True)',
    );
  } else if (skill === "segment" && objects.length > 1) {
    lines.push(`    for label in ${labels}:`, `        print(client.segment(${quote(name)}, label))`);
  } else {
    lines.push(`    result = client.${skill}(${quote(name)}, ${argument})`, "    print(result)");
  }
  return lines.join("\n");
}

/** Return the call as a command line; of several labels, the first. */
export function curl({ skill, name, type, question, objects, length, server, model }) {
  const fields = { query: { question }, caption: { length } }[skill] ?? { object: objects[0] ?? "" };
  const streams = skill === "query" || skill === "caption" || skill === "segment";
  const rest = { ...fields, ...(streams ? { stream: true } : {}), ...(model ? { model } : {}) };
  const end = `", ${JSON.stringify(rest).slice(1)}`;
  return [
    "{",
    `  printf %s ${shell(`{"image_url": "data:${type};base64,`)}`,
    `  base64 < ${shell(name)} | tr -d '\\n'`,
    `  printf %s ${shell(end)}`,
    `} | curl -N ${server}/${skill} -d @- -H 'Content-Type: application/json' \\`,
    '  -H "X-Moondream-Auth: $MOONDREAM_API_KEY"',
  ].join("\n");
}

function quote(text) {
  return JSON.stringify(text);
}

function shell(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
