// The page: choose a picture and a skill, run it, and show what arrives.

import { call, prepare } from "./api.js";
import { COLORS, Drawing } from "./drawing.js";
import * as snippets from "./snippets.js";

const $ = (id) => document.getElementById(id);
const drawing = new Drawing($("overlay"), $("labels"));
const chosen = { uri: null, name: "", type: "" };
let info = { server: location.origin, model: null, notice: "", prices: null };
let running = null; // the AbortController of the calls
let shown = null; // what the code shows
let language = "python";

async function choose(file) {
  if (!file) return;
  running?.abort();
  try {
    chosen.uri = await prepare(file);
  } catch (error) {
    showError(error);
    return;
  }
  Object.assign(chosen, { name: file.name || "picture.png", type: file.type || "image/jpeg" });
  $("picture").src = chosen.uri;
  $("picture").alt = `The chosen picture, ${chosen.name}`;
  $("stage").hidden = $("another").hidden = false;
  $("drop").hidden = true;
  clearResult("Picture ready. Choose a skill and run it.");
}

async function run(event) {
  event.preventDefault();
  if (!chosen.uri) {
    showError(new Error("Choose a picture first."));
    return;
  }
  const request = readForm();
  if (!request) return;
  running?.abort();
  const controller = (running = new AbortController());
  clearResult(`Running ${request.skill} …`);
  shown = request;
  showCode();
  setBusy(true);
  const started = performance.now();
  const usage = { input: 0, output: 0, known: false };
  const jobs = request.bodies.map((body, index) => runOne(request, body, index, usage, controller.signal));
  const outcomes = await Promise.allSettled(jobs);
  if (running !== controller) return; // another run has begun
  setBusy(false);
  const failed = outcomes.find((outcome) => outcome.status === "rejected");
  if (controller.signal.aborted) $("status").textContent = "Stopped.";
  else if (failed) showError(failed.reason);
  else $("status").textContent = summaryOf(outcomes.map((outcome) => outcome.value));
  if (usage.known || !failed) showFigures(usage, performance.now() - started);
}

function readForm() {
  const skill = new FormData($("form")).get("skill");
  const question = $("question").value.trim();
  const objects = $("objects").value.split(",").map((text) => text.trim()).filter(Boolean);
  const length = $("length").value;
  if (skill === "query" && !question) return missing("question", "Type a question.");
  if (["detect", "point", "segment"].includes(skill) && !objects.length) return missing("objects", "Type what to look for.");
  const image = { image_url: chosen.uri };
  const bodies = { query: [{ question, stream: true }], caption: [{ length, stream: true }] }[skill]
    ?? objects.map((object) => ({ object, ...(skill === "segment" ? { stream: true } : {}) }));
  const server = info.server;
  return { skill, question, objects, length, server, model: info.model, name: chosen.name, type: chosen.type,
    bodies: bodies.map((body) => ({ ...image, ...body })) };
}

function missing(id, message) {
  showError(new Error(message));
  $(id).focus();
  return null;
}

async function runOne(request, body, index, usage, signal) {
  const color = COLORS[index % COLORS.length];
  const show = viewOf(request.skill, body.object, color);
  let count = null;
  for await (const event of call(request.skill, body, signal)) {
    count = show(event) ?? count;
    if (event.metrics) {
      usage.known = true;
      usage.input += event.metrics.input_tokens ?? 0;
      usage.output += event.metrics.output_tokens ?? 0;
    }
  }
  if (count !== null) addFound(color, body.object, count);
  return count;
}

/** Return a function that shows an event; it returns the number of things found, once that is known. */
function viewOf(skill, label, color) {
  if (skill === "detect") {
    return ({ objects = [] }) => {
      objects.forEach((box) => drawing.box(box, color, label));
      return objects.length;
    };
  }
  if (skill === "point") {
    return ({ points = [] }) => {
      points.forEach((point) => drawing.point(point, color));
      return points.length;
    };
  }
  if (skill === "segment") return segmentView(label, color);
  return (event) => {
    const whole = event.completed ? event.answer ?? event.caption : null;
    $("answer").textContent = whole ?? $("answer").textContent + (event.chunk ?? event.text ?? "");
    return null;
  };
}

function segmentView(label, color) {
  let path = "";
  let removeBox = () => {};
  let outline = null;
  let removeOutline = () => {};
  return (event) => {
    if (event.bbox) {
      removeBox();
      removeOutline();
      removeBox = drawing.box(event.bbox, color, label);
      outline = drawing.outline(event.bbox, color);
    }
    path = event.path ?? path + (event.chunk ?? "");
    removeOutline = outline?.(path, Boolean(event.completed)) ?? removeOutline;
    return event.completed ? Number(Boolean(path)) : null;
  };
}

function summaryOf(counts) {
  const found = counts.filter((count) => count !== null);
  if (!found.length) return "Done.";
  return `Done: ${found.reduce((sum, count) => sum + count, 0)} found.`;
}

function addFound(color, label, count) {
  const item = document.createElement("li");
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.backgroundColor = color;
  item.append(swatch, `${label}: ${count ? `${count} found` : "none found"}`);
  $("found").append(item);
}

function showFigures(usage, milliseconds) {
  $("tokens").textContent = usage.known ? `${usage.input} in, ${usage.output} out` : "not known";
  $("time").textContent = `${(milliseconds / 1000).toFixed(2)} s`;
  const { prices } = info;
  const cost = prices && (usage.input * prices.input + usage.output * prices.output) / 1e6;
  const estimate = info.notice ? " on Moondream Cloud" : "";
  $("price").textContent = prices && usage.known ? `$${cost.toFixed(6)}${estimate}` : "not known";
  $("figures").hidden = false;
}

function showCode() {
  $("code").textContent = snippets[language](shown);
  $("code-section").hidden = false;
}

function showError(error) {
  $("status").textContent = "Failed.";
  $("error").textContent = error.message;
  $("error").hidden = false;
}

function clearResult(status) {
  drawing.clear();
  $("status").textContent = status;
  $("error").hidden = $("figures").hidden = true;
  $("answer").textContent = "";
  $("found").replaceChildren();
}

function setBusy(isBusy) {
  $("run").disabled = isBusy;
  $("stop").disabled = !isBusy;
  $("answer").setAttribute("aria-busy", String(isBusy));
}

function showFields() {
  const skill = new FormData($("form")).get("skill");
  for (const field of document.querySelectorAll("[data-skills]")) {
    field.hidden = !field.dataset.skills.split(" ").includes(skill);
  }
}

function chooseLanguage(button) {
  language = button.dataset.language;
  for (const each of document.querySelectorAll("[data-language]")) {
    each.setAttribute("aria-pressed", String(each === button));
  }
  showCode();
}

async function copyCode() {
  await navigator.clipboard.writeText($("code").textContent);
  $("copy").textContent = "Copied";
  setTimeout(() => ($("copy").textContent = "Copy"), 1500);
}

async function useSample() {
  const response = await fetch("sample.png");
  await choose(new File([await response.blob()], "sample.png", { type: "image/png" }));
}

$("form").addEventListener("submit", run);
$("form").addEventListener("change", showFields);
$("stop").addEventListener("click", () => running?.abort());
$("file").addEventListener("change", (event) => choose(event.target.files[0]));
$("sample").addEventListener("click", useSample);
$("copy").addEventListener("click", copyCode);
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => chooseLanguage(button));
}
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((each) => each.type.startsWith("image/"));
  if (file) choose(file);
});
for (const type of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(type, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", type === "dragover");
    if (type === "drop") choose(event.dataTransfer.files[0]);
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") running?.abort();
});

showFields();
info = await (await fetch("info.json")).json();
$("server").textContent = [info.server, info.model, info.notice].filter(Boolean).join(" · ");
