// What is marked data-live is asked for again every 15 seconds while somebody looks; without this file nothing is lost.
(() => {
  "use strict";
  document.querySelector(".top nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
  const live = document.querySelector("[data-live]");
  if (!live) return;
  const refresh = async () => {
    if (document.hidden || live.contains(document.activeElement) || live.querySelector("details[open]")) return;
    try {
      const answer = await fetch(location.href, { headers: { "X-Live": "1" }, redirect: "manual" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.getElementById(live.id);
      if (fresh && fresh.innerHTML !== live.innerHTML) live.replaceChildren(...fresh.childNodes);
    } catch {
      // the next round asks again
    }
  };
  setInterval(refresh, Number(document.documentElement.dataset.live || 15) * 1000);
  document.addEventListener("visibilitychange", refresh);
})();
