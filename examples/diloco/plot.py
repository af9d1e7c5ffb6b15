"""The demo's plot as SVG, drawn without a library: panels over one time axis.

Text and lines have explicit colours on a white background, so the file looks the same in light and dark viewers.
"""

import math
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 960, 78, 28
TOP, GAP, BOTTOM = 92, 34, 62
INK, SOFT, GRID = "#1f2933", "#52606d", "#e4e7eb"
ACCURACY, LOSS, WORLD = "#0b6e4f", "#c2410c", "#1d4ed8"
LOST, JOINED = "#b91c1c", "#6d28d9"
FONT = "font-family=\"-apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, 'DejaVu Sans', sans-serif\""


@dataclass
class Marker:
    """An event. `kind` is "lost" or "joined"."""

    time_s: float
    label: str
    kind: str


@dataclass
class Panel:
    """One curve and its place. `low` and `high` are the ends of its axis, `step` the distance of its ticks."""

    title: str
    unit: str
    colour: str
    values: list
    low: float
    high: float
    step: float
    height: int
    staircase: bool = False
    top: int = 0

    def y(self, value):
        fraction = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.top + self.height * (1 - fraction)

    def ticks(self):
        count = round((self.high - self.low) / self.step)
        return [self.low + i * self.step for i in range(count + 1)]


def nice_step(span, ticks):
    """The largest of 1, 2, 5 times a power of ten that gives about `ticks` ticks."""
    raw = max(span, 1e-9) / ticks
    power = 10 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def text(x, y, words, size=13, colour=INK, anchor="start", weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" '
        f'font-weight="{weight}">{escape(words)}</text>'
    )


def line(x1, y1, x2, y2, colour, width=1.0, dash=""):
    dashes = f' stroke-dasharray="{dash}"' if dash else ""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"{dashes}/>'


def draw_panel(panel, times, x, end_x):
    parts = [f'<rect x="{LEFT}" y="{panel.top}" width="{end_x - LEFT}" height="{panel.height}" fill="#fafbfc"/>']
    for tick in panel.ticks():
        parts.append(line(LEFT, panel.y(tick), end_x, panel.y(tick), GRID))
        parts.append(text(LEFT - 9, panel.y(tick) + 4.5, f"{tick:g}", 12, SOFT, "end"))
    middle = panel.top + panel.height / 2
    words = f"{panel.title}, {panel.unit}" if panel.unit else panel.title
    parts.append(
        f'<text transform="translate(24 {middle:.1f}) rotate(-90)" font-size="13" fill="{panel.colour}" '
        f'font-weight="600" text-anchor="middle">{escape(words)}</text>'
    )
    points = [(x(t), panel.y(v)) for t, v in zip(times, panel.values) if v is not None]
    if panel.staircase:
        points = [p for (x0, y0), (x1, y1) in zip(points, points[1:]) for p in ((x0, y0), (x1, y0), (x1, y1))] or points
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{panel.colour}" stroke-width="2.2" stroke-linejoin="round"/>')
    if points and not panel.staircase:
        last_x, last_y = points[-1]
        words = f"{next(v for v in reversed(panel.values) if v is not None):.4g}"
        below = last_y < panel.top + panel.height / 2
        parts.append(f'<circle cx="{last_x:.1f}" cy="{last_y:.1f}" r="3.6" fill="{panel.colour}"/>')
        parts.append(text(last_x - 4, last_y + (20 if below else -10), words, 13, panel.colour, "end", "600"))
    return parts


def draw_markers(markers, panels, x, end_x):
    """A dashed line through all panels for each event, with its text above them. Texts that would overlap use a second row."""
    parts, row_ends = [], [-math.inf, -math.inf]
    for marker in sorted(markers, key=lambda m: m.time_s):
        colour = LOST if marker.kind == "lost" else JOINED
        at, half = x(marker.time_s), 3.6 * len(marker.label)
        centre = min(max(at, LEFT + half), end_x - half)
        row = 0 if centre - half > row_ends[0] + 10 else 1
        row_ends[row] = centre + half
        y = TOP - 10 - 17 * row
        parts.append(line(at, y + 4, at, panels[-1].top + panels[-1].height, colour, 1.6, "5 4"))
        parts.append(text(centre, y, marker.label, 12.5, colour, "middle", "600"))
    return parts


def draw_legend(panels, end_x, y):
    parts, at = [], end_x
    entries = [(p.title, p.colour, "") for p in panels] + [("peer lost", LOST, "5 4"), ("peer joined", JOINED, "5 4")]
    for words, colour, dash in reversed(entries):
        at -= 7.0 * len(words)
        parts.append(text(at, y, words, 12.5, INK))
        parts.append(line(at - 30, y - 4, at - 7, y - 4, colour, 2.2, dash))
        at -= 48
    return parts


def loss_panel(losses, title="training loss", colour=LOSS):
    highest = max((v for v in losses if v is not None), default=1.0)
    step = nice_step(highest, 4)
    return Panel(title, "nats", colour, losses, 0, step * math.ceil(highest / step), step, 150)


def accuracy_panel(accuracies):
    """A panel of fractions, shown in percent."""
    percent = [100 * a for a in accuracies]
    low, high, step = 5 * math.floor((min(percent, default=0) - 1) / 5), 5 * math.ceil((max(percent, default=0) + 1) / 5), 5
    low = max(0, low)
    if high - low > 50:
        low, high, step = 10 * math.floor(low / 10), 10 * math.ceil(high / 10), 10
    return Panel("test accuracy", "%", ACCURACY, percent, low, high, step, 190)


def render(title, times, panels, worlds, markers):
    """The SVG document: `panels`, and below them the number of peers. `times` are seconds since the start, with a value each in every curve."""
    panels = [*panels, Panel("world size", "peers", WORLD, worlds, 0, max(worlds, default=1) + 1, 1, 96, staircase=True)]
    top = TOP
    for panel in panels:
        panel.top, top = top, top + panel.height + GAP
    bottom, height = top - GAP, top - GAP + BOTTOM
    end_x, last = WIDTH - RIGHT, max(times, default=1.0)
    tick_s = nice_step(last, 10)

    def x(time_s):
        return LEFT + (end_x - LEFT) * min(max(time_s / last, 0), 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" {FONT}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        text(LEFT, 34, title, 17, INK, weight="600"),
    ]
    for panel in panels:
        parts += draw_panel(panel, times, x, end_x)
    for i in range(int(last / tick_s + 1e-9) + 1):
        parts.append(line(x(i * tick_s), bottom, x(i * tick_s), bottom + 5, SOFT))
        parts.append(text(x(i * tick_s), bottom + 20, f"{i * tick_s:g}", 12, SOFT, "middle"))
    parts.append(text(LEFT, height - 14, "time since the start, s", 13, SOFT))
    parts += draw_legend(panels, end_x, height - 14)
    parts += draw_markers(markers, panels, x, end_x)
    return "\n".join(parts + ["</svg>"]) + "\n"
