"""A picture of bars in SVG, written by hand: a panel a measure, a bar a subject."""

from html import escape

WIDTH, LABELS, BARS, ROW, GAP = 760, 190, 470, 24, 18
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.heading { font-weight: 600 }
.first { fill: #0f766e }
.other { fill: #94a3b8 }
.limit { stroke: #b45309; stroke-width: 2; stroke-dasharray: 4 3 }
.note { fill: #b45309 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .other { fill: #64748b } .note { fill: #f59e0b }
}
"""


def draw(panels):
    """Panels are a heading, bars as (label, value), the first of them ours, and a limit or None."""
    y, parts = 0, []
    for heading, bars, limit in panels:
        y += GAP
        parts.append(f'<text class="heading" x="0" y="{y + 4}">{escape(heading)}</text>')
        scale = BARS / max([value for _, value in bars] + [limit or 0])
        top = y + 12
        for index, (label, value) in enumerate(bars):
            base = top + ROW * index
            kind = "other" if index else "first"
            width = value * scale
            parts.append(f'<text x="{LABELS - 8}" y="{base + 16}" text-anchor="end">{escape(label)}</text>')
            parts.append(
                f'<rect class="{kind}" x="{LABELS}" y="{base + 3}" width="{width:.1f}" height="{ROW - 6}"/>'
            )
            parts.append(f'<text x="{LABELS + width + 6:.1f}" y="{base + 16}">{value:.0f}</text>')
        y = top + ROW * len(bars)
        if limit:
            x = LABELS + limit * scale
            parts.append(f'<line class="limit" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{y}"/>')
            parts.append(
                f'<text class="note" x="{x:.1f}" y="{top - 4}" text-anchor="middle">limit {limit:.0f}</text>'
            )
    size = f'width="{WIDTH}" height="{y + GAP}" viewBox="0 0 {WIDTH} {y + GAP}"'
    body = "\n".join(parts)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{STYLE}</style>\n{body}\n</svg>\n'
