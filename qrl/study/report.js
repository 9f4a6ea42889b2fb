"use strict";
(function () {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const palettes = JSON.parse(document.getElementById("palettes").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displaylogo: false, responsive: true, displayModeBar: false };

  // Colour names such as "@0" stand in the figures, so that one figure serves the light and the dark page.
  function resolve(value, palette) {
    if (typeof value === "string") return Object.hasOwn(palette, value) ? palette[value] : value;
    if (Array.isArray(value)) return value.map((item) => resolve(item, palette));
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, resolve(item, palette)]));
    }
    return value;
  }

  function draw(theme, width) {
    const drawn = [];
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(name);
      const { data, layout } = resolve(figure, palettes[theme]);
      const narrow = place.clientWidth < 480;
      if (narrow) {
        layout.font.size = 11;
        layout.margin.l = Math.min(layout.margin.l, 44);
      }
      if (width) layout.width = width;
      drawn.push(Plotly.react(place, data, layout, config));
    }
    return Promise.all(drawn);
  }

  const theme = () => (dark.matches ? "dark" : "light");
  draw(theme()).then(() => document.body.setAttribute("data-drawn", "true"));
  dark.addEventListener("change", () => draw(theme()));
  window.addEventListener("beforeprint", () => draw("light", 660));
  window.addEventListener("afterprint", () => draw(theme()));
})();
