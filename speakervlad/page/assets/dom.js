// Elements without a framework. Texts are set as texts, so a name is never read as HTML.

export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children.flat(Infinity));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
}

export const one = (selector, root = document) => root.querySelector(selector);

export function clock(seconds, digits = 0) {
  const whole = Math.floor(seconds), hours = Math.floor(whole / 3600);
  const minutes = Math.floor((whole % 3600) / 60);
  const rest = (seconds % 60).toFixed(digits).padStart(digits ? 3 + digits : 2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export const percent = (value, digits = 1) => `${(100 * value).toFixed(digits)} %`;

export function download(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// A modal question; answers with the pressed button's value, "" when it was closed.
export function ask(title, body, buttons) {
  return new Promise((resolve) => {
    const dialog = el("dialog", { "aria-label": title },
      el("form", { method: "dialog" }, el("h2", {}, title), body,
        el("div", { class: "row end" }, buttons.map(([value, text, kind]) =>
          // Enter presses the first button that submits: never the one that closes.
          el("button", value ? { value, class: kind } : { type: "button", onclick: () => dialog.close("") }, text)))));
    dialog.addEventListener("close", () => { dialog.remove(); resolve(dialog.returnValue); });
    dialog.addEventListener("cancel", () => { dialog.returnValue = ""; });
    document.body.append(dialog);
    dialog.showModal();
  });
}
