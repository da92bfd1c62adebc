"""The template of the HTML report. Kept as text in a module, so that it is installed without further settings."""
# ruff: noqa: E501

PAGE = r"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ document.title }}</title>
<style>
  :root { --ink: #1F2933; --muted: #66727F; --faint: #E3E7EB; --soft: #F5F7F9; --blue: #0072B2; }
  * { box-sizing: border-box; }
  html { scroll-padding-top: 12px; }
  body { margin: 0; font: 15px/1.55 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: var(--ink); background: #fff; }
  .page { display: grid; grid-template-columns: 210px minmax(0, 1fr); max-width: 1360px; margin: 0 auto; }
  nav { position: sticky; top: 0; align-self: start; padding: 34px 12px 24px 24px; max-height: 100vh; overflow: auto; font-size: 14px; }
  nav b { display: block; color: var(--muted); font-size: 12px; letter-spacing: .05em; text-transform: uppercase; margin-bottom: 6px; }
  nav a { display: block; color: var(--ink); text-decoration: none; padding: 4px 0 4px 10px; border-left: 2px solid var(--faint); }
  nav a:hover { border-color: var(--blue); color: var(--blue); }
  main { padding: 30px 32px 60px; }
  header { border-bottom: 3px solid var(--blue); padding-bottom: 14px; margin-bottom: 18px; }
  h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; }
  header p { margin: 0; color: var(--muted); }
  h2 { font-size: 20px; margin: 40px 0 10px; padding-bottom: 5px; border-bottom: 1px solid var(--faint); }
  h3 { font-size: 16px; margin: 24px 0 8px; }
  p { margin: 8px 0; max-width: 86ch; }
  a { color: var(--blue); }
  .facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(160px, 1fr)); gap: 12px; }
  .fact { background: var(--soft); border-radius: 8px; padding: 12px 16px; }
  .fact span { display: block; color: var(--muted); font-size: 13px; }
  .fact strong { display: block; font-size: 23px; line-height: 1.3; font-variant-numeric: tabular-nums; }
  .table { overflow-x: auto; margin: 10px 0 4px; }
  table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
  th, td { padding: 5px 12px 5px 8px; text-align: left; vertical-align: top; border-bottom: 1px solid var(--faint); }
  th { background: var(--soft); border-bottom: 1px solid #C5CDD5; vertical-align: bottom; font-weight: 600; }
  .number { text-align: right; white-space: nowrap; }
  td a { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
  .note, figcaption { color: var(--muted); font-size: 13px; margin: 4px 0 14px; }
  .blocks { display: flex; flex-wrap: wrap; gap: 0 18px; }
  .blocks > * { flex: 1 0 100%; min-width: 0; }
  figure { margin: 12px 0 4px; }
  .blocks > figure.half { flex: 1 1 calc(50% - 9px); max-width: calc(50% - 9px); }
  figure img { display: block; width: auto; max-width: 100%; height: auto; }
  pre { background: var(--soft); border-radius: 8px; padding: 12px 14px; overflow: auto; font: 12.5px/1.5 ui-monospace, "DejaVu Sans Mono", monospace; }
  summary { cursor: pointer; color: var(--blue); }
  @media (max-width: 900px) { .page { display: block; } nav { position: static; padding: 16px 20px 0; max-height: none; } main { padding: 12px 20px 40px; } .blocks > figure.half { flex-basis: 100%; max-width: 100%; } }
  @media print { nav { display: none; } .page { display: block; } h2 { break-after: avoid; } figure { break-inside: avoid; } }
</style>
</head>
<body>
<div class="page">
<nav aria-label="Contents"><b>Contents</b>
{% for section in document.sections %}
  <a href="#section-{{ loop.index }}">{{ section.title }}</a>
{% endfor %}
</nav>
<main>
<header><h1>{{ document.title }}</h1><p>{{ document.subtitle }}</p></header>
{% if document.facts %}
<div class="facts">
{% for fact in document.facts %}
  <div class="fact"><span>{{ fact.label }}</span><strong>{{ fact.value }}</strong><span>{{ fact.note }}</span></div>
{% endfor %}
</div>
{% endif %}
{% for section in document.sections %}
<section id="section-{{ loop.index }}">
<h2>{{ section.title }}</h2>
<div class="blocks">
{% for block in section.blocks %}
{% set kind = block|kind %}
{% if kind == "text" %}
<p>{{ block.text }}</p>
{% elif kind == "heading" %}
<h3>{{ block.text }}</h3>
{% elif kind == "code" and block.title %}
<details><summary>{{ block.title }}</summary><pre>{{ block.text }}</pre></details>
{% elif kind == "code" %}
<pre>{{ block.text }}</pre>
{% elif kind == "picture" %}
<figure{% if block.share <= 0.5 %} class="half"{% endif %}><img src="{{ block.png|png }}" alt="{{ block.caption }}"><figcaption>{{ block.caption }}</figcaption></figure>
{% else %}
{% set right = block.right() %}
<div><div class="table"><table>
<thead><tr>{% for name in block.columns %}<th{% if right[loop.index0] %} class="number"{% endif %}>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in block.cells() %}
<tr>{% for cell in row %}<td{% if right[loop.index0] %} class="number"{% endif %}>{% if cell is link %}<a href="{{ cell.address }}">{{ cell.text }}</a>{% else %}{{ cell }}{% endif %}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>{% if block.note %}<p class="note">{{ block.note }}</p>{% endif %}</div>
{% endif %}
{% endfor %}
</div>
</section>
{% endfor %}
</main>
</div>
</body>
</html>
"""
