"""Draw docs/images/demo.png from the demo's run folders: `python docs/images/demo.py runs/demo`."""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from qrl.study.comparison import compare
from qrl.study.statistics import bootstrap_band

STYLE = {
    "hybrid": ("#0072B2", "-", "o"),
    "twin": ("#D55E00", "--", "s"),
    "mlp": ("#009E73", ":", "D"),
    "random": ("#CC79A7", "-.", "v"),
}
TITLES = {
    "beam-steering": "Beam steering (DQN, CERN TT24-T4)",
    "cartpole": "CartPole (PPO, 200,000 interactions)",
}


def panel(axes, study):
    result = compare(study)
    for agent in result.agents:
        colour, line, marker = STYLE[agent.name]
        middle, low, high = bootstrap_band(agent.curves)
        axes.fill_between(agent.grid, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(
            agent.grid,
            middle,
            line,
            color=colour,
            marker=marker,
            markersize=4,
            label=f"{agent.name} (n = {agent.n})",
        )
    if result.threshold is not None:
        axes.axhline(result.threshold, color="#444444", linewidth=0.8)
        place = (0.0, result.threshold)
        axes.annotate(" threshold", place, xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    axes.set_title(TITLES[study.name], fontsize=11, loc="left")
    axes.set_xlabel("environment interactions")
    axes.set_ylabel("mean return of 100 greedy episodes")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def main(root):
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), constrained_layout=True)
    for axes, name in zip(panels, TITLES, strict=True):
        panel(axes, Path(root) / name)
    panels[0].set_xscale("symlog", linthresh=100)
    panels[0].set_xlim(0, 5500)
    panels[0].set_xticks([0, 100, 200, 400, 1000, 5000], ["0", "100", "200", "400", "1,000", "5,000"])
    panels[0].minorticks_off()
    panels[1].xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda x, _: f"{x:,.0f}"))
    panels[1].set_xlim(0)
    panels[1].set_xticks(range(0, 200_001, 50_000))
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(Path(__file__).with_name("demo.png"), dpi=110)


if __name__ == "__main__":
    main(sys.argv[1])
