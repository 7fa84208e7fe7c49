"use strict";
for (const data of document.querySelectorAll("script[data-chart]")) {
  const figure = JSON.parse(data.textContent);
  Plotly.newPlot(data.dataset.chart, figure.data, figure.layout, {
    displaylogo: false,
    responsive: true,
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { filename: data.dataset.chart, scale: 2 },
  });
}
