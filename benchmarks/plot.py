"""Plot the figures: a panel for each case, a bar for each contestant."""

from __future__ import annotations

from pathlib import Path

from .harness import Figure


def draw(figures: list[Figure], path: Path) -> None:
    """Write calls (or events) per second as a PNG or SVG; needs matplotlib."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    speeds = [figure for figure in figures if "per second" in figure.values]
    if not speeds:
        print("Nothing to plot: no benchmark measured calls per second.")
        return
    cases = list(dict.fromkeys(figure.case for figure in speeds))
    fig, axes = plt.subplots(len(cases), 1, figsize=(9, 1.4 + 1.5 * len(cases)), squeeze=False)
    for axis, case in zip(axes[:, 0], cases, strict=True):
        shown = [figure for figure in speeds if figure.case == case][::-1]
        colors = ["#3060c0" if figure.contestant.startswith("moondream-async") else "#aaaaaa" for figure in shown]
        bars = axis.barh([f.contestant for f in shown], [f.values["per second"] for f in shown], color=colors)
        axis.bar_label(bars, fmt="{:,.0f}", padding=3, fontsize=7)
        axis.set_title(f"{case}: per second", fontsize=8, loc="left")
        axis.tick_params(labelsize=7)
        axis.margins(x=0.12)
        axis.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    fig.savefig(path, dpi=120)
