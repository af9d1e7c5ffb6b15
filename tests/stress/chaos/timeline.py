"""Draws the events of a run of chaos.py as SVG: a row per host, steps as ticks, faults as bars and marks, and steps per second below."""

WIDTH, LEFT, ROW, TOP, CURVE = 1200, 110, 26, 30, 90
COLORS = {"kill -9": "#c0392b", "master kill -9": "#c0392b", "SIGSTOP": "#8e44ad", "master SIGSTOP": "#8e44ad", "leave": "#7f8c8d",
          "path cut": "#d35400", "path cut one way": "#e67e22", "cut from master": "#f39c12", "parted": "#b9770e", "slow and lossy": "#2980b9",
          "invalid bytes": "#16a085"}


def draw(events, steps, trainers, seconds):
    seconds = max(seconds, 1)
    x = lambda t: LEFT + (WIDTH - LEFT - 10) * t / seconds  # noqa: E731
    y = lambda host: TOP + ROW * host  # noqa: E731
    height = y(trainers + 1) + CURVE + 60
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
           f'<text x="{LEFT}" y="18" font-size="14">Faults and steps of {trainers} trainers</text>']
    for host in range(trainers + 1):
        out.append(f'<text x="8" y="{y(host) + 15}">{"master" if host == 0 else f"trainer {host}"}</text>')
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - 10}" y1="{y(host) + 11}" y2="{y(host) + 11}" stroke="#ecf0f1" stroke-width="14"/>')
    for host in range(1, trainers + 1):
        pixels = sorted({round(x(at) * 2) / 2 for at, who in steps if who == host})
        path = "".join(f"M{p:g} {y(host) + 5}v12" for p in pixels)
        out.append(f'<path d="{path}" stroke="#27ae60" stroke-width="0.7" fill="none"/>')
    for event in events:
        color, row = COLORS.get(event["kind"], "#333"), y(event["host"])
        title = f'<title>{event["at"]:.1f} s: {event["kind"]}</title>'
        if event["until"]:
            width = max(2, x(min(event["until"], seconds)) - x(event["at"]))
            out.append(f'<rect x="{x(event["at"]):.1f}" y="{row + 1}" width="{width:.1f}" height="20" fill="{color}" opacity="0.55">{title}</rect>')
        else:
            out.append(f'<circle cx="{x(event["at"]):.1f}" cy="{row + 11}" r="4" fill="{color}">{title}</circle>')
    out += curve(steps, trainers, seconds, x, y(trainers + 1) + 8)
    at = LEFT
    for kind in sorted({event["kind"] for event in events}):
        out.append(f'<rect x="{at}" y="{height - 24}" width="12" height="12" fill="{COLORS.get(kind, "#333")}" opacity="0.8"/>')
        out.append(f'<text x="{at + 16}" y="{height - 14}">{kind}</text>')
        at += 34 + 7 * len(kind)
    return "\n".join([*out, "</svg>"]) + "\n"


def curve(steps, trainers, seconds, x, top):
    """Steps of the run per second, and the axis of time."""
    bins = [0.0] * (int(seconds) + 1)
    for at, _ in steps:
        bins[min(int(at), len(bins) - 1)] += 1 / trainers
    highest = max(bins) or 1
    points = " ".join(f"{x(i + 0.5):.1f},{top + CURVE - CURVE * count / highest:.1f}" for i, count in enumerate(bins))
    step = next(s for s in (10, 30, 60, 120, 300, 600, 1800, 3600, 1 << 30) if seconds / s <= 12)
    ticks = [f'<text x="{x(t):.0f}" y="{top + CURVE + 14}" text-anchor="middle">{t} s</text>' for t in range(0, int(seconds) + 1, step)]
    return [f'<polyline points="{points}" fill="none" stroke="#2c3e50" stroke-width="1"/>',
            f'<text x="8" y="{top + 14}">steps/s</text><text x="8" y="{top + 30}">(at most {highest:.0f})</text>', *ticks]
