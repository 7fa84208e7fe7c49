/** Units of a chart's width: as many as it has pixels, so that letters keep their size on a phone. */
export function chartWidth(most = 720) {
  return Math.max(300, Math.min(most, document.documentElement.clientWidth - 40));
}
