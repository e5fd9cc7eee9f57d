"use strict";
(() => {
  const known = new Map(JSON.parse(document.getElementById("browser-data").textContent).map((d) => [d.at, d]));

  const setUp = (browser) => {
    const tools = browser.querySelector(".tools");
    const field = tools.querySelector("input");
    const tabs = [...tools.querySelectorAll("button[data-kind]")];
    const groups = [...browser.querySelectorAll(".group")];
    const chooser = tools.querySelector("select");
    const hits = tools.querySelector(".hits");
    const documents = [...browser.querySelectorAll(".doc")].map((element) => {
      const entry = known.get(element.id) || {};
      const words = [entry.id, entry.source, element.querySelector(".doc-text").textContent];
      return { element, words: words.filter(Boolean).join("\n").toLowerCase() };
    });
    let kind = "";

    const show = () => {
      const wanted = field.value.trim().toLowerCase();
      let n = 0;
      for (const { element, words } of documents) element.hidden = wanted !== "" && !words.includes(wanted);
      for (const group of groups) {
        const n_shown = group.querySelectorAll(".doc:not([hidden])").length;
        const isOther = (kind !== "" && group.dataset.kind !== kind) || (chooser?.value && group.dataset.arm !== chooser.value);
        group.hidden = isOther || n_shown === 0;
        if (!group.hidden) n += n_shown;
      }
      hits.textContent = wanted === "" ? "" : n === 0 ? "No document matches." : `${n} of ${documents.length} documents match.`;
    };
    field.addEventListener("input", show);
    chooser?.addEventListener("change", show);
    for (const tab of tabs) {
      tab.addEventListener("click", () => {
        kind = tab.dataset.kind;
        for (const other of tabs) other.setAttribute("aria-pressed", String(other === tab));
        show();
      });
    }
    for (const { element } of documents) {
      const button = element.querySelector(".copy");
      if (button) {
        button.hidden = false;
        button.addEventListener("click", () => copy(known.get(element.id).id, button));
      }
    }
    tools.hidden = false;
    show();
  };

  const copy = async (text, button) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const range = document.createRange();
      range.selectNodeContents(button.parentElement.querySelector("bdi"));
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      done = document.execCommand("copy");
    }
    button.textContent = done ? "Copied" : "Selected";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };

  const reveal = () => {
    const wanted = location.hash && document.getElementById(location.hash.slice(1));
    const chooser = wanted && wanted.closest(".group[hidden]") && wanted.closest(".browser").querySelector("select");
    if (chooser) {
      chooser.value = wanted.closest(".group").dataset.arm;
      chooser.dispatchEvent(new Event("change"));
    }
    for (let at = wanted; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    if (wanted) wanted.scrollIntoView();
  };

  document.querySelectorAll(".browser").forEach(setUp);
  addEventListener("hashchange", reveal);
  if (location.hash) reveal();
})();
