"""The HTML page of a table, a template for `$caption`, `$head`, `$rows` and `$origin`."""

from string import Template

PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>vlret: which encoding retrieves the passage that answers?</title>
<style>
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --rule: #d5dae0; --page: #fff; --row: #f3f6f9;
  --mark: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #a3adb8; --rule: #39414a; --page: #14181d;
  --row: #1d232a; --mark: #7db8f5; } }
body { margin: 2rem auto; padding: 0 1.25rem; max-width: 90rem; color: var(--ink); background: var(--page);
  font: 15px/1.45 system-ui, "Segoe UI", "Helvetica Neue", sans-serif; }
h1 { font-size: 1.35rem; margin: 0 0 .5rem; }
p { max-width: 95ch; color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; white-space: nowrap; }
thead { border-top: 2px solid; border-bottom: 1px solid; }
tbody { border-bottom: 2px solid; }
th, td { padding: .35rem .6rem; text-align: left; vertical-align: baseline; font-weight: 400; }
thead th { font-weight: 600; vertical-align: bottom; white-space: normal; }
tbody tr:nth-child(even) { background: var(--row); }
tbody th small { display: block; color: var(--soft); }
.m { color: var(--mark); }
sup { color: var(--mark); font-size: .68em; line-height: 0; margin-left: .15em; cursor: help; }
strong { font-weight: 700; }
button { all: unset; cursor: pointer; border-bottom: 1px dotted var(--soft); }
button:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
[aria-sort=ascending] button::after { content: " ▲"; }
[aria-sort=descending] button::after { content: " ▼"; }
svg { width: 7rem; height: .7rem; margin-right: .5rem; vertical-align: -.05em; }
path { stroke: var(--rule); stroke-width: 1; }
path.i { stroke: var(--mark); stroke-width: 2.5; }
circle { fill: var(--mark); }
@media print { body { margin: 0; font-size: 9pt; } button { border: 0; } }
</style>
</head>
<body>
<main>
<h1>Which encoding of image and text retrieves the passage that answers?</h1>
<p id="caption">$caption</p>
<div class="scroll" role="region" aria-labelledby="caption" tabindex="0">
<table aria-describedby="caption">
<thead><tr>$head</tr></thead>
<tbody>
$rows
</tbody>
</table>
</div>
<footer><p>$origin</p></footer>
</main>
<script>
const body = document.querySelector("tbody"), rows = [...body.rows];
const order = new Map(rows.map((row, place) => [row, place]));
document.querySelectorAll("thead button").forEach(button => button.addEventListener("click", () => {
  const head = button.parentElement, back = head.parentElement.cells.length - head.cellIndex;
  const up = head.cellIndex === 0 ? head.ariaSort !== "ascending" : head.ariaSort === "descending";
  const number = row => parseFloat(row.cells[row.cells.length - back].textContent);
  const value = head.cellIndex === 0 ? row => order.get(row) : number;
  head.parentElement.querySelectorAll("th").forEach(other => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...rows.sort((a, b) => (up ? 1 : -1) * (value(a) - value(b)) || order.get(a) - order.get(b)));
}));
</script>
</body>
</html>
""")
