"""What the plots of all notebooks share: Chinese letters, colours, tables that are not cut off."""

from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl
from matplotlib import font_manager

# matplotlib's own font has no Chinese characters. The first of these that is installed is used.
CHINESE_FONTS = [
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "Noto Sans CJK JP", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC",
    "Arial Unicode MS",
]
# Colours that can be told apart with any kind of sight (Okabe and Ito 2008).
SENTIMENTS = {"negative": "#d55e00", "neutral": "#c8c8c8", "positive": "#009e73"}
BLUE, RED, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#8c8c8c"


def _find_chinese_font():
    names = [font.name for font in font_manager.fontManager.ttflist]
    if not set(CHINESE_FONTS) & set(names):
        # matplotlib keeps a list of fonts and does not see what was installed after it was made.
        for path in sorted(font_manager.findSystemFonts()):
            file = Path(path).stem.lower()
            if "cjk" in file or file.startswith(("wqy", "droidsansfallback")):
                font_manager.fontManager.addfont(path)
        added = [font.name for font in font_manager.fontManager.ttflist[len(names) :]]
        return next((name for name in CHINESE_FONTS if name in added), next(iter(added), None))
    return next(name for name in CHINESE_FONTS if name in names)


CHINESE_FONT = _find_chinese_font()


def begin():
    """Sets all of it up and says which font draws Chinese labels."""
    plt.rcParams.update(
        {"axes.unicode_minus": False, "axes.spines.right": False, "axes.spines.top": False, "figure.dpi": 110}
    )
    pl.Config(fmt_str_lengths=90, tbl_rows=60, tbl_hide_dataframe_shape=True, tbl_hide_column_data_types=True)
    if CHINESE_FONT:
        plt.rcParams["font.sans-serif"] = [CHINESE_FONT, *plt.rcParams["font.sans-serif"]]
        print(f"Chinese labels are drawn in {CHINESE_FONT}.")
    else:
        print(
            "No Chinese font was found, so plots name a class by its number and tables give the names; "
            "install one (on Debian and Ubuntu: fonts-noto-cjk) and run again."
        )


def shown(labels):
    """Class names as they can be drawn: themselves, or their numbers where there is no font."""
    drawable = CHINESE_FONT or all(str(label).isascii() for label in labels)
    return [str(label) if drawable else f"class {number}" for number, label in enumerate(labels, 1)]
