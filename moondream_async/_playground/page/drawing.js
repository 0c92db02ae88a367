// Draw boxes, points and outlines over the picture. Coordinates are 0..1 of the picture.

const SVG = "http://www.w3.org/2000/svg";
const COMMANDS = /^[MLHVCSQTAZmlhvcsqtaz0-9eE.,\s-]*$/;

export const COLORS = ["#0b57d0", "#b3261e", "#146c2e", "#7b1fa2", "#a04b00", "#00626e"];

/** Draws on an SVG and, for what must keep its size, on an element above it. */
export class Drawing {
  constructor(svg, labels) {
    this.svg = svg;
    this.labels = labels;
  }

  clear() {
    this.svg.replaceChildren();
    this.labels.replaceChildren();
  }

  box(box, color, label) {
    const { x_min: x, y_min: y, x_max, y_max } = box;
    const shape = this.#shape("rect", { x, y, width: x_max - x, height: y_max - y, class: "box", stroke: color });
    const tag = this.#tag(x, y, color, label);
    return () => [shape, tag].forEach((each) => each.remove());
  }

  point({ x, y }, color) {
    const dot = document.createElement("div");
    dot.className = "dot";
    Object.assign(dot.style, { left: `${x * 100}%`, top: `${y * 100}%`, backgroundColor: color });
    this.labels.append(dot);
  }

  /** Draw an outline, whose path is relative to its box; return a function that updates it. */
  outline(box, color) {
    const width = box.x_max - box.x_min;
    const height = box.y_max - box.y_min;
    const transform = `translate(${box.x_min} ${box.y_min}) scale(${width} ${height})`;
    const shape = this.#shape("path", { transform, class: "outline growing", stroke: color, fill: color });
    shape.setAttribute("fill-rule", "evenodd");
    return (path, isFinal) => {
      if (!COMMANDS.test(path)) return;
      shape.setAttribute("d", isFinal ? path : wholeCommands(path));
      shape.classList.toggle("growing", !isFinal);
      return () => shape.remove();
    };
  }

  #shape(name, attributes) {
    const shape = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    this.svg.append(shape);
    return shape;
  }

  #tag(x, y, color, text) {
    const tag = document.createElement("div");
    tag.className = "tag";
    tag.textContent = text;
    Object.assign(tag.style, { left: `${x * 100}%`, top: `${y * 100}%`, backgroundColor: color });
    this.labels.append(tag);
    return tag;
  }
}

/** Cut a path that is still arriving before its last command, which may lack numbers. */
function wholeCommands(path) {
  const last = path.search(/[A-Za-z][^A-Za-z]*$/);
  return last > 0 ? path.slice(0, last) : "";
}
