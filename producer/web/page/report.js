// Shows an error at the top of the page.

/** Show a sentence at the top of the page; without one, clear it. */
export function report(sentence) {
  const box = document.getElementById("error");
  box.textContent = sentence ?? "";
  box.hidden = !sentence;
  if (sentence) box.scrollIntoView({ block: "nearest" });
}
